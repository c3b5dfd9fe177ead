// SPDX-License-Identifier: GPL-2.0
/*
 * Everything that moves free pages between types: some mechanisms for a moment
 * each, then all at once, while the free_lists verifier runs periodically.
 *
 * FREE_LIST_SECONDS sets how long all of them run at once; 600 is a soak.
 */
#include <linux/falloc.h>
#include <linux/mman.h>
#include <sys/prctl.h>

#include "free_list_load.h"

#define ALONE_SECONDS	2
#define ALL_SECONDS	20
#define INTERVAL_MS	"100"
#define OFFLINE_SECONDS	5
#define MEMORY_DIR	"/sys/devices/system/memory/"

/* Memory blocks that went offline while memory was empty, by their number */
static struct {
	int number[16];
	int nr;
} *goes;

/* Offlining tries until a signal comes. */
static void interrupt(int signal)
{
}

static int set_memory(int number, const char *state)
{
	struct sigaction act = { .sa_handler = interrupt };
	char path[64];
	int ret;

	snprintf(path, sizeof(path), MEMORY_DIR "memory%d/state", number);
	sigaction(SIGALRM, &act, NULL);
	alarm(strcmp(state, "offline") ? 0 : OFFLINE_SECONDS);
	ret = put(path, "%s", state);
	alarm(0);
	return ret;
}

static void find_hotplug(void)
{
	int number;

	for (number = 0; number < (int)ARRAY_SIZE(goes->number); number++) {
		if (set_memory(number, "offline"))
			continue;
		goes->number[goes->nr++] = number;
		set_memory(number, "online");
	}
	/* Memory that comes back has the kernel set it anew. */
	put(VM "min_free_kbytes", "4096");
}

/*
 * Most of memory is in one file that cannot be written back, with holes: what
 * is free then is single pages in blocks that are mostly movable. The tests
 * have it in common, for each is a process of its own.
 */
static int cache_fd = -1;
static int cache_mb;

__attribute__((constructor))
static void make_cache(void)
{
	cache_fd = memfd_create("cache", MFD_CLOEXEC);
	goes = mmap(NULL, sizeof(*goes), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void punch(long long at, long long end)
{
	for (; at < end; at += 3 * 4096)
		fallocate(cache_fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
			  at, 4096);
}

static void fill_cache(void)
{
	long long keep = 32 << 10;

	cache_mb = lseek(cache_fd, 0, SEEK_END) >> 20;
	if (cache_mb)
		return;
	find_hotplug();
	while (meminfo_kb("MemFree") > keep &&
	       !fallocate(cache_fd, 0, (long long)cache_mb << 20, 1 << 20))
		cache_mb++;
	punch(0, (long long)cache_mb << 20);
}

/*
 * One round of a mechanism. Returns how often it did what it is for, of
 * @tries. Each runs in a process of its own, which ends by SIGTERM.
 */
struct mechanism {
	const char *name;
	const char *needs;
	long long (*round)(long long *tries);
};

static unsigned int seed = 1;

static int below(int limit)
{
	return rand_r(&seed) % limit;
}

/*
 * What the mechanisms leave to the rest of the system: each asks before it
 * takes its part, and switching THP raises min_free_kbytes to 44 MiB.
 */
#define RESERVE_KB	(96 << 10)

static bool room(long long kb)
{
	return free_kb() > kb;
}

static long long do_cma(long long *tries)
{
	const char *area = cma_area(64);
	int pages = 1 + below(below(4) ? 64 : 2048);

	if (!area)
		return 0;
	++*tries;
	if (cma_alloc(area, pages))
		return 0;
	return !cma_free(area, pages);
}

static long long do_hugepages(long long *tries)
{
	long long got;

	if (!room(RESERVE_KB))
		return 0;
	++*tries;
	put(NR_HUGEPAGES, "%d", 1 + below(12));
	got = get(NR_HUGEPAGES);
	put(NR_HUGEPAGES, "0");
	return got > 0;
}

static long long migrated(void)
{
	return vm_counter("pgmigrate_success");
}

static long long do_compact(long long *tries)
{
	long long moved = migrated();

	++*tries;
	put(VM "compact_memory", "1");
	usleep(50000);
	return migrated() > moved;
}

static long long do_min_free_kbytes(long long *tries)
{
	int high = below(2);

	++*tries;
	/* The CPUs' lists are as long as the watermarks are far apart. */
	return !put(VM "min_free_kbytes", "%d", high ? 16384 : 4096) &&
	       !put(VM "watermark_scale_factor", "%d", high ? 3000 : 10);
}

static long long do_atomic(long long *tries)
{
	static struct ptys ptys;
	int got;

	if (!room(RESERVE_KB))
		return 0;
	got = fill_ptys(&ptys, 20);
	*tries += 20;
	close_ptys(&ptys);
	return got;
}

static long long do_thp(long long *tries)
{
	struct blocks b = {};
	int good, i;

	if (!room(RESERVE_KB))
		return 0;
	++*tries;
	put(THP "enabled", below(8) ? "always" : "never");
	good = get_blocks(&b, 4);
	split_blocks(&b);
	for (i = 0; i < 4; i++)
		drop(block(&b, i) + 4096 * below(256), 4096 * (1 + below(256)));
	put_blocks(&b);
	return good > 0;
}

static long long do_hwpoison(long long *tries)
{
	static char *map;
	unsigned long long pfn;
	char *page;

	++*tries;
	if (!map)
		map = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page = map + below(1024) * 4096;
	*page = 1;
	pfn = pfn_of(page);
	if (madvise(page, 4096, below(2) ? MADV_HWPOISON : MADV_SOFT_OFFLINE))
		return 0;
	munmap(map, 4 << 20);
	map = NULL;
	return !put(HWPOISON "unpoison-pfn", "0x%llx", pfn);
}

static long long do_reporting(long long *tries)
{
	long long seen = reports();

	if (seen < 0)
		return 0;
	++*tries;
	put(REPORTING_ORDER, "%d", 7 + below(3));
	usleep(200000);
	return reports() > seen;
}

static long long do_hotplug(long long *tries)
{
	int number, ret;

	/* What is in the block has to go somewhere. */
	if (!goes->nr || !room(RESERVE_KB + 128 * 1024)) {
		usleep(10000);
		return 0;
	}
	++*tries;
	number = goes->number[below(goes->nr)];
	ret = set_memory(number, "offline");
	set_memory(number, "online");
	return !ret;
}

/*
 * Unmovable pages that need room among the movable ones, whose holes are
 * elsewhere in the next round.
 */
static long long do_steal(long long *tries)
{
	static struct pipes pipes;
	long long at = below(cache_mb - 8), got;

	++*tries;
	/* A part of a block at a time, so that the verifier comes in between. */
	for (got = 0; got < 12000 && room(RESERVE_KB); got += 401) {
		fill_pipes(&pipes, 401);
		usleep(10000);
	}
	fallocate(cache_fd, FALLOC_FL_KEEP_SIZE, at << 20, 4 << 20);
	punch(at << 20, (at + 4) << 20);
	close_pipes(&pipes);
	return got > 0;
}

static const struct mechanism mechanisms[] = {
	{ "steal", "memfd_create", do_steal },
	{ "cma", "a CMA area of 64 pages in debugfs", do_cma },
	{ "hugepages", "hugetlbfs and free blocks", do_hugepages },
	{ "compaction", "pages that can move", do_compact },
	{ "min_free_kbytes", "root", do_min_free_kbytes },
	{ "atomic", "ptys", do_atomic },
	{ "thp", "transparent huge pages", do_thp },
	{ "hwpoison", "MEMORY_FAILURE and HWPOISON_INJECT", do_hwpoison },
	{ "reporting", "a balloon with free page reporting", do_reporting },
	{ "hotplug", "a memory block that can go offline", do_hotplug },
};

#define NR	ARRAY_SIZE(mechanisms)

static struct {
	long long tries[NR], done[NR];
} *counts;

static struct verdict before, after;

FIXTURE(mechanisms) {
	pid_t pid[NR];
};

FIXTURE_VARIANT(mechanisms) {
	int only;
};

/* The others have tests of their own, in free_list_*.c. */
FIXTURE_VARIANT_ADD(mechanisms, cma) {
	.only = 1,
};

FIXTURE_VARIANT_ADD(mechanisms, hugepages) {
	.only = 2,
};

FIXTURE_VARIANT_ADD(mechanisms, compaction) {
	.only = 3,
};

FIXTURE_VARIANT_ADD(mechanisms, thp) {
	.only = 6,
};

FIXTURE_VARIANT_ADD(mechanisms, all) {
	.only = -1,
};

static void run(unsigned int n, time_t end)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	seed = n + 1;
	while (time(NULL) < end)
		counts->done[n] += mechanisms[n].round(&counts->tries[n]);
	_exit(0);
}

FIXTURE_SETUP(mechanisms)
{
	if (!verify_present())
		return;
	quiet();
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, counts);
	ASSERT_NE(MAP_FAILED, (void *)goes);
	fill_cache();
	ASSERT_LT(16, cache_mb);
	ASSERT_EQ(0, verify_free_lists(&before));
}

FIXTURE_TEARDOWN(mechanisms)
{
	unsigned int n;

	for (n = 0; n < NR; n++)
		if (self->pid[n] > 0)
			kill(self->pid[n], SIGKILL);
	write_file(VERIFY_DIR "interval_ms", "0");
	restore();
}

TEST_F_TIMEOUT(mechanisms, keep_lists, 3600)
{
	const char *text = getenv("FREE_LIST_SECONDS");
	long long total, runs, idle = 0;
	int seconds = ALONE_SECONDS, status;
	unsigned int n;
	time_t end;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (variant->only < 0)
		seconds = text && atoi(text) > 0 ? atoi(text) : ALL_SECONDS;
	total = verify_number(before.line, "total");
	runs = verify_number(before.line, "runs");
	ASSERT_EQ(0, write_file(VERIFY_DIR "interval_ms", INTERVAL_MS));
	end = time(NULL) + seconds;
	for (n = 0; n < NR; n++) {
		/* The first is what each of them is run against. */
		if (n && variant->only >= 0 && variant->only != (int)n)
			continue;
		self->pid[n] = fork();
		ASSERT_LE(0, self->pid[n]);
		if (!self->pid[n])
			run(n, end);
	}
	for (n = 0; n < NR; n++) {
		if (!self->pid[n])
			continue;
		ASSERT_EQ(self->pid[n], waitpid(self->pid[n], &status, 0));
		EXPECT_EQ(0, status) TH_LOG("%s", mechanisms[n].name);
		self->pid[n] = 0;
		TH_LOG("%s: %lld of %lld", mechanisms[n].name, counts->done[n],
		       counts->tries[n]);
		if (!counts->done[n]) {
			idle++;
			TH_LOG("%s did nothing: it needs %s", mechanisms[n].name,
			       mechanisms[n].needs);
		}
	}
	ASSERT_EQ(0, write_file(VERIFY_DIR "interval_ms", "0"));
	restore();
	put(NR_HUGEPAGES, "0");
	drain_cpus();
	sleep(1);
	ASSERT_EQ(0, verify_free_lists(&after));
	TH_LOG("%d s, %lld runs: %lld violations; now %s", seconds,
	       verify_number(after.line, "runs") - runs,
	       verify_number(after.line, "total") - total,
	       verdict_text(&after));
	EXPECT_EQ(0, verify_number(after.line, "total") - total);
	EXPECT_EQ(0, after.counters);
	EXPECT_LT(runs + 1, verify_number(after.line, "runs"));
	if (_metadata->passed && idle)
		SKIP(return, "%lld did nothing", idle);
}

TEST_HARNESS_MAIN
