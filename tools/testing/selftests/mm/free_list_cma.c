// SPDX-License-Identifier: GPL-2.0
/*
 * Contiguous allocation from a CMA area that is full of movable pages, while
 * page cache and huge pages come and go, some pages are pinned for a moment,
 * and unmovable pages need room: how often it succeeds, by size. These are
 * figures, to be compared between kernels. What every kernel owes is that the
 * area can be had as a whole afterwards, with the unmovable pages still there:
 * none may be in it.
 *
 * FREE_LIST_TRIES sets how often each size is tried.
 */
#include <linux/falloc.h>
#include <sys/prctl.h>

#include "free_list_load.h"

#define TRIES		3
#define TRY_SECONDS	10
#define ROUNDS		10
/* What is pinned: so many pages in each of so many pipes */
#define PIPE_PAGES	64
#define NR_PIPES	32
#define MIN_PAGES	4096

/* Half of what is free is in the area at most, so it is mostly full. */
#define FREE_LOW_KB	(32 << 10)
#define FREE_HIGH_KB	(44 << 10)
/* What the load leaves outside the area. */
#define ROOM_KB		(16 << 10)

/* Parts of the area that are asked for */
static const int parts[] = { 1024, 256, 64, 32, 8 };

static struct verdict verdict;
static struct pipes pipes;
static unsigned int seed;
static const char *area;
static int cache_fd = -1;

static long long area_pages(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), CMA_DIR "%s/%s", area, name);
	return get(path);
}

static long long area_free_pages(void)
{
	return meminfo_kb("CmaFree") / 4;
}

static int change_cache(int mode, long long mb)
{
	return fallocate(cache_fd, mode, mb << 20, 1 << 20) ? -errno : 0;
}

/* Page cache that grows into what others free, and moves about. */
static void load_cache(void)
{
	long long mb = lseek(cache_fd, 0, SEEK_END) >> 20, at;

	for (;;) {
		long long kb = meminfo_kb("MemFree");

		at = rand_r(&seed) % mb;
		if (kb > FREE_HIGH_KB) {
			change_cache(0, mb++);
			continue;
		}
		change_cache(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, at);
		if (kb > FREE_LOW_KB)
			change_cache(FALLOC_FL_KEEP_SIZE, at);
	}
}

static void load_pipes(void)
{
	static struct pipes p;
	int n;

	for (;;) {
		for (n = 0; n < 20 && free_kb() > ROOM_KB; n++) {
			fill_pipes(&p, 401);
			usleep(1000);
		}
		close_pipes(&p);
	}
}

static void load_huge_pages(void)
{
	struct blocks b = {};
	int i;

	for (;;) {
		if (free_kb() < ROOM_KB) {
			usleep(1000);
			continue;
		}
		get_blocks(&b, 2);
		split_blocks(&b);
		for (i = 0; i < 2; i++)
			drop(block(&b, i) + 4096 * (rand_r(&seed) % 256),
			     4096 * (1 + rand_r(&seed) % 256));
		put_blocks(&b);
	}
}

/* Pages of the cache are on their way to somewhere, and cannot move meanwhile. */
static void load_pins(void)
{
	long long mb = lseek(cache_fd, 0, SEEK_END) >> 20;
	static char text[PIPE_PAGES * 4096];
	int fd[NR_PIPES][2], i, n;

	for (n = 0; n < NR_PIPES; n++)
		if (pipe2(fd[n], O_NONBLOCK | O_CLOEXEC) ||
		    fcntl(fd[n][1], F_SETPIPE_SZ, PIPE_PAGES * 4096) < 0)
			_exit(errno);
	for (n = 0; ; n = (n + 1) % NR_PIPES) {
		/* Nothing is there, when there was no memory for anything. */
		if (read(fd[n][0], text, sizeof(text)) < 0 && errno != EAGAIN)
			_exit(errno);
		for (i = 0; i < PIPE_PAGES; i++) {
			loff_t at = (rand_r(&seed) % (mb << 8)) << 12;

			/* Of what was never written, splice takes no page. */
			pwrite(cache_fd, "", 1, at);
			splice(cache_fd, &at, fd[n][1], NULL, 4096,
			       SPLICE_F_NONBLOCK);
		}
	}
}

static void (* const loads[])(void) = {
	load_cache, load_pipes, load_huge_pages, load_pins,
};

#define NR_LOADS	ARRAY_SIZE(loads)

/* The load fills again what the last request has emptied, most of the time. */
static void wait_for_load(long long count)
{
	int n;

	for (n = 0; n < 60 && area_free_pages() > count / 5; n++)
		usleep(50000);
}

/*
 * Whether so many pages were had. A request that finds no room goes through
 * the area page by page, and ends by a signal that is fatal.
 */
static bool had(int pages)
{
	long long used = area_pages("used");
	pid_t pid = fork();

	if (!pid) {
		alarm(TRY_SECONDS);
		_exit(cma_alloc(area, pages) != 0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return area_pages("used") >= used + pages;
}

FIXTURE(cma) {
	pid_t pid[NR_LOADS];
};

FIXTURE_SETUP(cma)
{
	if (missing())
		return;
	quiet();
	area = cma_area(1);
	cache_fd = memfd_create("cache", MFD_CLOEXEC);
	ASSERT_LE(0, cache_fd);
}

static void end_loads(pid_t *pid)
{
	unsigned int n;

	for (n = 0; n < NR_LOADS; n++) {
		if (pid[n] <= 0)
			continue;
		kill(pid[n], SIGKILL);
		waitpid(pid[n], NULL, 0);
		pid[n] = 0;
	}
}

FIXTURE_TEARDOWN(cma)
{
	end_loads(self->pid);
	close_pipes(&pipes);
	if (cache_fd >= 0)
		close(cache_fd);
	restore();
}

static void start_loads(struct __test_metadata *_metadata, pid_t *pid)
{
	unsigned int n;

	for (n = 0; n < NR_LOADS; n++) {
		pid[n] = fork();
		ASSERT_LE(0, pid[n]);
		if (pid[n])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		seed = n + 1;
		loads[n]();
	}
}

static void try_size(struct __test_metadata *_metadata, pid_t *pid, int pages,
		     int tries)
{
	long long free_pages = 0, count = area_pages("count");
	int n, good = 0;
	unsigned int i;

	for (n = 0; n < tries; n++) {
		wait_for_load(count);
		free_pages += area_free_pages();
		if (!had(pages))
			continue;
		good++;
		ASSERT_EQ(0, cma_free(area, pages));
	}
	TH_LOG("%d pages: %d tries, %d successes, %lld pages had; %lld%% of the area was free",
	       pages, tries, good, (long long)good * pages,
	       free_pages * 100 / tries / count);
	for (i = 0; i < NR_LOADS; i++) {
		int status = 0;
		pid_t ended = waitpid(pid[i], &status, WNOHANG);

		ASSERT_EQ(0, ended) TH_LOG("load %u: status 0x%x", i, status);
	}
}

TEST_F_TIMEOUT(cma, under_load, 3600)
{
	const char *text = getenv("FREE_LIST_TRIES");
	int tries = text && atoi(text) > 0 ? atoi(text) : TRIES, round, pages;
	long long count, used, mb, got = 0;
	unsigned int i;

	if (missing())
		SKIP(return, "%s", missing());
	count = area_pages("count");
	used = area_pages("used");
	if (count - used < MIN_PAGES)
		SKIP(return, "needs a CMA area with %d pages", MIN_PAGES);

	for (mb = 0; meminfo_kb("MemFree") > FREE_HIGH_KB; mb++)
		ASSERT_EQ(0, change_cache(0, mb));
	start_loads(_metadata, self->pid);
	for (i = 0; i < ARRAY_SIZE(parts); i++)
		try_size(_metadata, self->pid, (count - used) / parts[i], tries);
	end_loads(self->pid);
	ASSERT_EQ(used, area_pages("used"));

	/* Unmovable pages are in all that is free, but for the area. */
	fill_memory(&pipes);
	ASSERT_LT(0, pipes.pages);
	judge(_metadata, &verdict, "after");
	/* Room for what has to leave the area. */
	while (mb && free_kb() < 2 * 4 * count)
		change_cache(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, --mb);
	fill_pipes(&pipes, fillable() / 2);
	/* A page that is busy for a moment leaves gaps, so smaller and smaller. */
	for (round = 0; round < ROUNDS && used + got < count; round++)
		for (pages = BLOCK_PAGES; pages; pages /= 2)
			while (used + got + pages <= count && had(pages))
				got += pages;
	TH_LOG("%lld unmovable pages; %lld of %lld pages of the area had in %d rounds",
	       pipes.pages, used + got, count, round);
	EXPECT_EQ(count, used + got);
	ASSERT_EQ(0, cma_free(area, got));
	judge(_metadata, &verdict, "at the end");
}

TEST_HARNESS_MAIN
