// SPDX-License-Identifier: GPL-2.0
/*
 * Pages are mapped and unmapped in every way, by several processes at once,
 * while they are migrated and reclaimed. What they hold must be right, and what
 * is counted must be back where it was.
 *
 * RMAP_CHURN_SECONDS makes each part so long; 5 by default.
 */
#include <sys/prctl.h>

#include "rmap_fs.h"

#define TMPFS_DIR	"/tmp/rmap-churn"
#define COMPACT		"/proc/sys/vm/compact_memory"
#define SWAP_BYTES	(64UL << 20)
#define AREA		(4UL << 20)
#define NR_FORKERS	3

static int seconds(void)
{
	const char *text = getenv("RMAP_CHURN_SECONDS");
	int n = text ? atoi(text) : 0;

	return n > 0 ? n : 5;
}

/*
 * Swap on a loop device whose file is locked into memory: swapping it out would
 * need itself.
 */
static struct {
	char device[32];
	void *pages;
} swap_area;

static const char *swap_on(void)
{
	int file = memfd_create("swap", MFD_CLOEXEC), dev;
	const char *why = NULL;

	if (file < 0 || ftruncate(file, SWAP_BYTES) ||
	    swap_sign(file, SWAP_BYTES))
		return "no file for swap";
	swap_area.pages = mmap(NULL, SWAP_BYTES, PROT_READ | PROT_WRITE,
			       MAP_SHARED, file, 0);
	if (swap_area.pages == MAP_FAILED ||
	    mlock(swap_area.pages, SWAP_BYTES))
		return "no locked memory for swap";
	dev = loop_device(file, swap_area.device, sizeof(swap_area.device));
	close(file);
	if (dev < 0)
		return "needs a loop device";
	if (swapon(swap_area.device, 0))
		why = "needs CONFIG_SWAP";
	close(dev);
	return why;
}

static void swap_off(void)
{
	if (swap_area.device[0])
		swapoff(swap_area.device);
	if (swap_area.pages)
		munmap(swap_area.pages, SWAP_BYTES);
	memset(&swap_area, 0, sizeof(swap_area));
}

/* Every word of the area is what it has to be. */
static void fill(char *area, size_t len, uint64_t seed)
{
	uint64_t *word = (uint64_t *)area;
	size_t n;

	for (n = 0; n < len / 8; n += PAGE / 8 / 4)
		word[n] = seed + n;
}

static long wrong(char *area, size_t len, uint64_t seed)
{
	uint64_t *word = (uint64_t *)area;
	long bad = 0;
	size_t n;

	for (n = 0; n < len / 8; n += PAGE / 8 / 4)
		bad += word[n] != seed + n;
	return bad;
}

static void *anon(size_t len, int huge)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at != MAP_FAILED)
		madvise(at, len, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return at;
}

/* One of n. The low bits of consecutive rand_r() hang together. */
static unsigned int any(unsigned int *state, unsigned int n)
{
	unsigned int x = *state += 0x9e3779b9;

	x = (x ^ x >> 16) * 0x85ebca6b;
	x = (x ^ x >> 13) * 0xc2b2ae35;
	return (x ^ x >> 16) % n;
}

/*
 * Grandchildren share the pages of their ancestors, write to some, reclaim some,
 * and leave in any order. Exits with 1 when a page held something else.
 */
static void fork_tree(int depth, char *area, uint64_t seed, unsigned int rnd)
{
	pid_t child[2] = { -1, -1 };
	int n, status, bad = 0;

	for (n = 0; depth && n < 2; n++) {
		child[n] = fork();
		if (child[n])
			continue;
		/* Here it begins again, a generation on. */
		rnd = rnd * 2 + n + 1;
		depth--;
		child[0] = -1;
		child[1] = -1;
		n = -1;
		/* Some outlive the process that they have it from. */
		if (any(&rnd, 4) == 0)
			usleep(any(&rnd, 3000));
	}
	bad |= wrong(area, AREA, seed) != 0;
	if (any(&rnd, 2)) {
		seed += rnd;
		fill(area, AREA, seed);
	}
	/* Of pages that nobody else maps. */
	if (any(&rnd, 2))
		madvise(area, AREA / 2, MADV_PAGEOUT);
	bad |= wrong(area, AREA, seed) != 0;
	switch (any(&rnd, 3)) {
	case 0:
		munmap(area, AREA / 2);
		break;
	case 1:
		madvise(area, AREA, MADV_DONTNEED);
		break;
	}
	for (n = 0; n < 2; n++)
		if (child[n] > 0 && any(&rnd, 4) &&
		    (waitpid(child[n], &status, 0) != child[n] || status))
			bad = 1;
	_exit(bad);
}

static pid_t forker(unsigned int number, double end)
{
	pid_t parent = fork(), pid;
	unsigned int round;
	int status;

	if (parent)
		return parent;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Who outlives its parent becomes ours, and is waited for. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (round = 1; round < 3 || now() < end; round++) {
		uint64_t seed = (uint64_t)number << 32 | round << 8;
		char *area = anon(AREA, round % 2);

		if (area == MAP_FAILED)
			_exit(2);
		fill(area, AREA, seed);
		pid = fork();
		if (!pid)
			fork_tree(3, area, seed, number << 16 | round);
		if (pid < 0)
			_exit(3);
		/* The first of them all goes before its descendants, or not. */
		if (round % 3)
			munmap(area, AREA);
		while ((pid = waitpid(-1, &status, 0)) > 0)
			if (status)
				_exit(WIFEXITED(status) ? WEXITSTATUS(status) :
				      4);
		if (round % 3 == 0)
			munmap(area, AREA);
	}
	_exit(0);
}

static pid_t compactor(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		write_file(COMPACT, "1");
		usleep(10000);
	}
}

static void end(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

FIXTURE(rmap_churn) {
	pid_t compactor;
};

FIXTURE_SETUP(rmap_churn)
{
	self->compactor = 0;
}

FIXTURE_TEARDOWN(rmap_churn)
{
	end(self->compactor);
	swap_off();
	umount2(TMPFS_DIR, MNT_DETACH);
	rmdir(TMPFS_DIR);
}

/* fork, exit, copy on write, migration and reclaim of anonymous pages */
TEST_F_TIMEOUT(rmap_churn, anon, 3600)
{
	long long out, in, migrated;
	double until = now() + seconds();
	pid_t pid[NR_FORKERS];
	const char *why;
	int n, status;

	if (geteuid() || access(COMPACT, W_OK))
		SKIP(return, "needs root and CONFIG_COMPACTION");
	why = swap_on();
	if (why)
		SKIP(return, "%s", why);
	out = vm_counter("pswpout");
	in = vm_counter("pswpin");
	migrated = vm_counter("pgmigrate_success");
	self->compactor = compactor();
	for (n = 0; n < NR_FORKERS; n++)
		pid[n] = forker(n + 1, until);
	for (n = 0; n < NR_FORKERS; n++) {
		ASSERT_EQ(pid[n], waitpid(pid[n], &status, 0));
		EXPECT_EQ(0, status) TH_LOG("forker %d: 0x%x", n, status);
	}
	out = vm_counter("pswpout") - out;
	in = vm_counter("pswpin") - in;
	migrated = vm_counter("pgmigrate_success") - migrated;
	TH_LOG("%lld pages out, %lld in, %lld migrated", out, in, migrated);
	/*
	 * Or there was nothing of what is to be tested. What comes back may
	 * still be in the swap cache, and then is not counted as read.
	 */
	EXPECT_LT(100, out);
	EXPECT_LT(100, migrated);
}

/* So many pages more are counted as mlocked than before; folding takes a while. */
static long long mlocked_more_than(long long before, long long pages)
{
	long long more;
	int tries;

	for (tries = 0; tries < 100; tries++) {
		write_file("/proc/sys/vm/stat_refresh", "1");
		more = vm_counter("nr_mlock") - before;
		if (more == pages)
			break;
		usleep(20000);
	}
	return more;
}

struct locked {
	const char *name;
	int shared;
	int huge;
	int file;
};

static char *map_locked(const struct locked *kind, int fd)
{
	char *hole = huge_hole(AREA), *at;

	if (!hole)
		return MAP_FAILED;
	if (kind->file)
		at = mmap(hole, AREA, PROT_READ | PROT_WRITE,
			  (kind->shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED,
			  fd, 0);
	else
		at = mmap(hole, AREA, PROT_READ | PROT_WRITE, MAP_FIXED |
			  MAP_ANONYMOUS | (kind->shared ? MAP_SHARED : MAP_PRIVATE),
			  -1, 0);
	if (at != MAP_FAILED)
		madvise(at, AREA, kind->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return at;
}

static const char * const ways[] = {
	"munlock", "munmap", "part by part", "zap by truncation", "exec and exit",
	"killed", "fork", "remap", "split", "written, then zapped",
};

/* Lock, and let go in one of the ways. Exits with 0. */
static void lock_and_go(const struct locked *kind, unsigned int way, int fd)
{
	char *at = map_locked(kind, fd);
	unsigned long page;
	pid_t pid;

	if (at == MAP_FAILED)
		_exit(1);
	memset(at, 1, AREA);
	if (mlock(at, AREA))
		_exit(2);
	switch (way) {
	case 0:
		_exit(munlock(at, AREA) != 0);
	case 1:
		_exit(munmap(at, AREA) != 0);
	case 2:
		for (page = 0; page < AREA / PAGE; page += 3)
			if (munmap(at + page * PAGE, PAGE))
				_exit(3);
		_exit(0);
	case 3:
		if (kind->file && ftruncate(fd, PAGE))
			_exit(4);
		_exit(0);
	case 4: {
		char *const argv[] = { "true", NULL };

		execvp("true", argv);
		_exit(5);
	}
	case 5:
		kill(getpid(), SIGKILL);
		_exit(6);
	case 6:
		pid = fork();
		if (!pid) {
			memset(at, 2, AREA / 2);
			_exit(0);
		}
		_exit(waitpid(pid, NULL, 0) != pid);
	case 7:
		_exit(mremap(at, AREA, AREA / 2, MREMAP_MAYMOVE) == MAP_FAILED);
	case 8:
		/* Of huge pages, a part is not locked any more. */
		if (munlock(at + PAGE, HUGE))
			_exit(7);
		_exit(mprotect(at + HUGE, PAGE, PROT_READ) != 0);
	case 9:
		/* MADV_DONTNEED is refused; new contents of nothing are not. */
		_exit(mmap(at, AREA, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS |
			   MAP_FIXED, -1, 0) == MAP_FAILED);
	}
	_exit(8);
}

TEST_F_TIMEOUT(rmap_churn, mlock, 3600)
{
	static const struct locked kinds[] = {
		{ "anon", 0, 0, 0 }, { "anon huge", 0, 1, 0 },
		{ "shmem", 1, 0, 0 }, { "file", 1, 0, 1 },
		{ "huge file", 1, 1, 1 }, { "private file", 0, 0, 1 },
	};
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	long long before, seen;
	unsigned int k, w;
	int fd, status;
	pid_t pid;

	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, mount_huge_tmpfs(TMPFS_DIR));
	write_file("/proc/sys/vm/stat_refresh", "1");
	before = vm_counter("nr_mlock");
	ASSERT_LE(0, before);
	self->compactor = compactor();
	for (k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (w = 0; w < ARRAY_SIZE(ways); w++) {
			fd = open(TMPFS_DIR "/file", O_RDWR | O_CREAT |
				  O_TRUNC | O_CLOEXEC, 0600);
			ASSERT_LE(0, fd);
			ASSERT_EQ(0, ftruncate(fd, AREA));
			pid = fork();
			if (!pid)
				lock_and_go(&kinds[k], w, fd);
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			EXPECT_EQ(w == 5 ? SIGKILL : 0, status)
				TH_LOG("%s, %s", kinds[k].name, ways[w]);
			close(fd);
			seen = mlocked_more_than(before, 0);
			EXPECT_EQ(0, seen)
				TH_LOG("%s, %s: %lld pages", kinds[k].name,
				       ways[w], seen);
		}
	}
	/* It is counted at all. */
	pid = fork();
	if (!pid) {
		mlock(map_locked(&kinds[0], -1), AREA);
		pause();
		_exit(0);
	}
	EXPECT_EQ(AREA / PAGE, mlocked_more_than(before, AREA / PAGE));
	end(pid);
	EXPECT_EQ(0, mlocked_more_than(before, 0));
}

/*
 * Huge pages in two processes, of which one changes them in every way there is
 * while the other reads.
 */
static void huge_round(struct __test_metadata *_metadata, char *area,
		       uint64_t seed, unsigned int way)
{
	unsigned long page;

	switch (way) {
	case 0:
		/* Unmapped in part: the mapcounts of the rest stay. */
		for (page = 1; page < HUGE / PAGE; page += 2)
			ASSERT_EQ(0, madvise(area + page * PAGE, PAGE,
					     MADV_DONTNEED));
		break;
	case 1:
		ASSERT_EQ(0, mprotect(area + PAGE, PAGE, PROT_READ));
		ASSERT_EQ(0, mprotect(area + PAGE, PAGE,
				      PROT_READ | PROT_WRITE));
		break;
	case 2:
		/* Not when the kernel is too old, or has no memory. */
		madvise(area, AREA, MADV_COLLAPSE);
		break;
	case 3:
		ASSERT_EQ(0, madvise(area, AREA, MADV_PAGEOUT));
		break;
	case 4:
		write_file("/sys/kernel/debug/split_huge_pages", "1");
		break;
	}
	fill(area, AREA, seed);
	ASSERT_EQ(0, wrong(area, AREA, seed));
}

TEST_F_TIMEOUT(rmap_churn, thp, 3600)
{
	int kind, status, rounds[2] = {};
	const char *why;

	if (geteuid() || access("/sys/kernel/mm/transparent_hugepage/enabled",
				R_OK))
		SKIP(return, "needs root and transparent huge pages");
	why = swap_on();
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, mount_huge_tmpfs(TMPFS_DIR));
	self->compactor = compactor();
	for (kind = 0; kind < 2; kind++) {
		struct locked how = {
			.shared = kind, .huge = 1, .file = kind,
		};
		long long split = vm_counter("thp_split_pmd");
		double until = now() + seconds();
		unsigned int n;
		char *area;
		int fd;

		fd = open(TMPFS_DIR "/file", O_RDWR | O_CREAT | O_TRUNC |
			  O_CLOEXEC, 0600);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ftruncate(fd, AREA));
		for (n = 0; now() < until || n < 10; n++) {
			pid_t pid;

			area = map_locked(&how, fd);
			ASSERT_NE(MAP_FAILED, area);
			fill(area, AREA, n);
			pid = fork();
			if (!pid) {
				for (n = 0; n < 10; n++)
					(void)wrong(area, AREA, 0);
				munmap(area + HUGE / 2, HUGE);
				_exit(0);
			}
			huge_round(_metadata, area, n + 1, n % 5);
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			ASSERT_EQ(0, status);
			ASSERT_EQ(0, wrong(area, AREA, n + 1));
			ASSERT_EQ(0, munmap(area, AREA));
			rounds[kind]++;
		}
		split = vm_counter("thp_split_pmd") - split;
		TH_LOG("%s: %d rounds, %lld PMDs split",
		       kind ? "tmpfs" : "anon", rounds[kind], split);
		EXPECT_LT(0, split);
		close(fd);
	}
}

TEST_HARNESS_MAIN
