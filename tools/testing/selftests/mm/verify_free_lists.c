// SPDX-License-Identifier: GPL-2.0
/*
 * The free_lists verifier: it sees what it says it looks for, it looks at every
 * free page, and what it says of this kernel, idle and after a mixed load.
 */
#include <linux/falloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "../kselftest_harness.h"
#include "mm_verify.h"

#define VERIFIER	"free_lists"
#define LOAD_SECONDS	10

/*
 * Findings that no kernel may have, idle or loaded. The others - type,
 * straddle, and drifts of the counters - the allocator of v6.1 does not rule
 * out: their number is printed.
 */
static const char * const never[] = {
	"order", "align", "buddy", "zone", "links", "overlap", "nr_free",
};

static char line[2048];

static int verify_and_read(void)
{
	int ret = verify_run(VERIFIER);

	return ret ? ret : verify_line(VERIFIER, line, sizeof(line));
}

/* What the allocator keeps aside goes back to the lists. */
static void quiesce(void)
{
	sync();
	write_file("/proc/sys/vm/drop_caches", "3");
	write_file("/proc/sys/vm/compact_memory", "1");
	sleep(1);
}

FIXTURE(free_lists) {
};

FIXTURE_SETUP(free_lists)
{
}

FIXTURE_TEARDOWN(free_lists)
{
}

static void print_line(struct __test_metadata *_metadata, const char *when)
{
	TH_LOG("%s: %s", when, line);
}

TEST_F_TIMEOUT(free_lists, idle, 300)
{
	unsigned int i;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	quiesce();
	ASSERT_EQ(0, verify_and_read());
	print_line(_metadata, "idle");
	EXPECT_LT(0, verify_number(line, "free_pages"));
	EXPECT_EQ(0, verify_number(line, "uncounted_zones"));
	for (i = 0; i < ARRAY_SIZE(never); i++)
		EXPECT_EQ(0, verify_number(line, never[i]))
			TH_LOG("%s", never[i]);
}

/* The verifier walks the same lists as /proc/buddyinfo counts. */
TEST_F_TIMEOUT(free_lists, matches_buddyinfo, 300)
{
	long long pages = 0, seen;
	char text[4096], *at, *save;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	quiesce();
	ASSERT_EQ(0, verify_and_read());
	ASSERT_LT(0, read_file("/proc/buddyinfo", text, sizeof(text)));
	for (at = strtok_r(text, "\n", &save); at;
	     at = strtok_r(NULL, "\n", &save)) {
		char *number = strstr(at, "zone"), *end;
		unsigned int order;

		ASSERT_NE(NULL, number);
		number += strcspn(number, " ");
		number += strspn(number, " ");
		number += strcspn(number, " ");
		for (order = 0; ; order++, number = end) {
			long long n = strtoll(number, &end, 10);

			if (end == number)
				break;
			pages += n << order;
		}
	}
	seen = verify_number(line, "free_pages");
	EXPECT_LT(0, pages);
	/* Both are right at their own moment; 2 % is what an idle system moves. */
	EXPECT_GT(pages / 50 + 256, llabs(seen - pages))
		TH_LOG("verifier %lld, buddyinfo %lld", seen, pages);
}

/* Zones that are too long for one hold are walked, but not summed. */
TEST_F_TIMEOUT(free_lists, bounded_hold, 300)
{
	char hold[32];

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_LT(0, read_file(VERIFY_DIR "max_hold", hold, sizeof(hold)));
	ASSERT_EQ(0, write_file(VERIFY_DIR "max_hold", "1"));
	EXPECT_EQ(0, verify_and_read());
	EXPECT_EQ(0, write_file(VERIFY_DIR "max_hold", hold));
	EXPECT_LT(0, verify_number(line, "uncounted_zones"));
	EXPECT_LT(0, verify_number(line, "free_pages"));
	EXPECT_EQ(0, verify_number(line, "nr_free"));

	EXPECT_EQ(0, verify_and_read());
	EXPECT_EQ(0, verify_number(line, "uncounted_zones"));
}

/*
 * The mixed load. What matters is that unmovable requests meet memory whose
 * free pages are single pages between movable ones, so that they have to take
 * parts of blocks that belong to another type.
 */
static void until(time_t end, void (*work)(void))
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (time(NULL) < end)
		work();
	_exit(0);
}

static long long meminfo_bytes(const char *name)
{
	long long kb = field("/proc/meminfo", name);

	return kb < 0 ? 0 : kb * 1024;
}

/*
 * Fill memory with a file, and punch every fourth page of it: what is free then
 * is single pages in blocks that are mostly movable. Returns the file.
 */
static int fill_with_holes(void)
{
	long long step = 1 << 20, size = 0, at;
	long long keep = meminfo_bytes("MemTotal:") / 12;
	int fd = memfd_create("holes", 0);

	if (fd < 0)
		return -1;
	while (meminfo_bytes("MemFree:") > keep &&
	       !fallocate(fd, 0, size, step))
		size += step;
	for (at = 0; at < size; at += 4 * 4096)
		fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, at,
			  4096);
	return fd;
}

static void load_anon(void)
{
	size_t size = 16 << 20, page;
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return;
	for (page = 0; page < size; page += 4096)
		map[page] = 1;
	madvise(map + size / 4, size / 2, MADV_DONTNEED);
	munmap(map, size);
}

/* Pipe buffers are pages that cannot move. */
static void load_pipes(void)
{
	static char buf[65536];
	int fds[200][2], n;

	for (n = 0; n < 200; n++) {
		if (pipe2(fds[n], O_NONBLOCK))
			break;
		while (write(fds[n][1], buf, sizeof(buf)) > 0)
			;
	}
	while (n--) {
		close(fds[n][0]);
		close(fds[n][1]);
	}
}

/* Page tables and kernel stacks. */
static void load_forks(void)
{
	int n;

	for (n = 0; n < 20; n++)
		if (!fork())
			_exit(0);
	while (wait(NULL) > 0)
		;
}

static void load_hugetlb(void)
{
	write_file("/proc/sys/vm/nr_hugepages", "8");
	write_file("/proc/sys/vm/nr_hugepages", "0");
}

static void load_compact(void)
{
	write_file("/proc/sys/vm/compact_memory", "1");
	usleep(100000);
}

static void load_caches(void)
{
	write_file("/proc/sys/vm/drop_caches", "3");
	usleep(500000);
}

static void (*const loads[])(void) = {
	load_anon, load_pipes, load_forks, load_hugetlb,
	load_compact, load_caches,
};

TEST_F_TIMEOUT(free_lists, after_mixed_load, 600)
{
	long long worst = 0, misplaced;
	pid_t pids[ARRAY_SIZE(loads)];
	int holes, status;
	unsigned int i;
	time_t end;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	holes = fill_with_holes();
	ASSERT_LE(0, holes);
	end = time(NULL) + LOAD_SECONDS;
	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i])
			until(end, loads[i]);
	}
	while (time(NULL) < end) {
		usleep(200000);
		ASSERT_EQ(0, verify_and_read());
		misplaced = verify_number(line, "misplaced_pages");
		if (misplaced > worst)
			worst = misplaced;
	}
	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status) TH_LOG("load %u", i);
	}
	TH_LOG("under load: at most %lld misplaced pages", worst);

	close(holes);
	quiesce();
	ASSERT_EQ(0, verify_and_read());
	print_line(_metadata, "after load");
	for (i = 0; i < ARRAY_SIZE(never); i++)
		EXPECT_EQ(0, verify_number(line, never[i]))
			TH_LOG("%s", never[i]);
}

/* Each finding, planted: found under its name, and gone afterwards. */
FIXTURE(inject) {
};

FIXTURE_VARIANT(inject) {
	const char *finding;
};

FIXTURE_VARIANT_ADD(inject, type) {
	.finding = "type",
};

FIXTURE_VARIANT_ADD(inject, straddle) {
	.finding = "straddle",
};

FIXTURE_VARIANT_ADD(inject, order) {
	.finding = "order",
};

FIXTURE_VARIANT_ADD(inject, align) {
	.finding = "align",
};

FIXTURE_VARIANT_ADD(inject, buddy) {
	.finding = "buddy",
};

FIXTURE_VARIANT_ADD(inject, zone) {
	.finding = "zone",
};

FIXTURE_VARIANT_ADD(inject, links) {
	.finding = "links",
};

FIXTURE_VARIANT_ADD(inject, overlap) {
	.finding = "overlap",
};

FIXTURE_VARIANT_ADD(inject, nr_free) {
	.finding = "nr_free",
};

FIXTURE_VARIANT_ADD(inject, nr_free_pages) {
	.finding = "nr_free_pages",
};

FIXTURE_VARIANT_ADD(inject, nr_free_cma) {
	.finding = "nr_free_cma",
};

FIXTURE_VARIANT_ADD(inject, isolated) {
	.finding = "isolated",
};

FIXTURE_SETUP(inject)
{
}

FIXTURE_TEARDOWN(inject)
{
}

TEST_F_TIMEOUT(inject, caught_and_undone, 300)
{
	long long before, after;
	char want[64];
	int ret, tries;

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);

	ASSERT_EQ(0, verify_and_read());
	before = verify_number(line, variant->finding);
	ASSERT_LE(0, before);

	/* A buddy of the size that is needed may not be free just now. */
	for (tries = 0; tries < 5; tries++) {
		ret = verify_inject(VERIFIER, variant->finding);
		if (ret != -EAGAIN)
			break;
		quiesce();
	}
	if (ret == -EAGAIN)
		SKIP(return, "nothing to plant it on");
	ASSERT_EQ(0, ret);

	ASSERT_EQ(0, verify_line(VERIFIER, line, sizeof(line)));
	snprintf(want, sizeof(want), " injected=%s:caught", variant->finding);
	EXPECT_NE(NULL, strstr(line, want)) TH_LOG("%s", line);
	EXPECT_LT(0, verify_number(line, variant->finding));

	/* One page's difference more than before would be ours. */
	ASSERT_EQ(0, verify_and_read());
	after = verify_number(line, variant->finding);
	EXPECT_GE(before, after) TH_LOG("%s", line);
	EXPECT_EQ(NULL, strstr(line, "injected=")) TH_LOG("%s", line);
}

TEST_HARNESS_MAIN
