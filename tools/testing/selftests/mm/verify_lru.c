// SPDX-License-Identifier: GPL-2.0
/*
 * The lru verifier: it sees what it says it looks for, it looks at every page on
 * the LRU lists, and it finds nothing on a machine that moves pages about.
 */
#include "../kselftest_harness.h"
#include "lru_load.h"

#define VERIFIER	"lru"
#define LOAD_SECONDS	15
#define GROUP		"verify_lru.load"

static char line[2048];
static struct backed disk;

static int verify_and_read(void)
{
	int ret = verify_run(VERIFIER);

	return ret ? ret : verify_line(VERIFIER, line, sizeof(line));
}

/* Second number of the line: violations of the last run. */
static long long violations(void)
{
	long long checked, found;

	if (sscanf(line, "%*s %lld %lld", &checked, &found) != 2)
		return -1;
	return found;
}

static long long on_lists(void)
{
	return vm_counter("nr_inactive_anon") + vm_counter("nr_active_anon") +
	       vm_counter("nr_inactive_file") + vm_counter("nr_active_file");
}

/* Folios of each kind on the lists: a block device's pages are file pages. */
static char *kinds(void)
{
	size_t size = 8 << 20;
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("kinds", 0);

	if (map == MAP_FAILED || fd < 0)
		return NULL;
	memset(map, 1, size);
	if (write(fd, map, 1 << 20) != 1 << 20 ||
	    pread(disk.loop, map, 1 << 20, 0) != 1 << 20)
		return NULL;
	/* What waits on a CPU's batch goes to the lists. */
	write_file("/proc/sys/vm/compact_memory", "1");
	return map;
}

FIXTURE(lru) {
};

FIXTURE_VARIANT(lru) {
	const char *gen;
};

FIXTURE_VARIANT_ADD(lru, classic) {
	.gen = "0",
};

FIXTURE_VARIANT_ADD(lru, gens) {
	.gen = "7",
};

FIXTURE_SETUP(lru)
{
	if (!verify_present())
		return;
	ASSERT_EQ(0, backed_open(&disk, "tmpfs", "kinds", 8));
	if (lru_gen_present())
		write_file(LRU_GEN, variant->gen);
}

FIXTURE_TEARDOWN(lru)
{
	if (lru_gen_present())
		write_file(LRU_GEN, "0");
	backed_close(&disk);
}

TEST_F_TIMEOUT(lru, idle, 300)
{
	long long seen, told;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!lru_gen_present())
		SKIP(return, "needs CONFIG_LRU_GEN");

	ASSERT_NE(NULL, kinds());
	ASSERT_EQ(0, verify_and_read());
	TH_LOG("%s", line);
	EXPECT_EQ(0, violations());
	EXPECT_EQ(0, verify_number(line, "uncounted_lists"));
	seen = verify_number(line, "pages");
	told = on_lists();
	EXPECT_LT(1024, seen);
	/* Both are right at their own moment. */
	EXPECT_GT(told / 20 + 512, llabs(seen - told))
		TH_LOG("verifier %lld, vmstat %lld", seen, told);
	EXPECT_EQ(variant->gen[0] == '0' ? 0 : seen,
		  verify_number(line, "gen_pages"));
}

/* Lists that are too long for one hold are visited in part, and not summed. */
TEST_F_TIMEOUT(lru, bounded_hold, 300)
{
	char hold[32];

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_NE(NULL, kinds());
	ASSERT_LT(0, read_file(VERIFY_DIR "max_hold", hold, sizeof(hold)));
	ASSERT_EQ(0, write_file(VERIFY_DIR "max_hold", "10"));
	EXPECT_EQ(0, verify_and_read());
	EXPECT_EQ(0, write_file(VERIFY_DIR "max_hold", hold));
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
	EXPECT_LT(0, verify_number(line, "uncounted_lists"));
	EXPECT_LT(0, verify_number(line, "pages"));
}

/* The load: each moves pages to, from and between lists in its own way. */
static void load_mlock(void)
{
	static char *map;
	size_t size = 4 << 20;

	if (!map) {
		map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (map == MAP_FAILED)
			_exit(1);
	}
	mlock(map, size);
	munlock(map, size);
}

static void load_anon(void)
{
	size_t size = 32 << 20;
	char *map = map_huge(size);

	if (!map)
		_exit(1);
	memset(map, 1, size);
	madvise(map, size / 4, MADV_FREE);
	madvise(map + size / 2, size / 4, MADV_PAGEOUT);
	madvise(map + size / 4 + 4096, 8 * 4096, MADV_DONTNEED);
	memset(map, 2, size);
	munmap(map, size);
}

static void load_file(void)
{
	static char buf[1 << 20];
	int fd = memfd_create("load", 0), i;

	for (i = 0; fd >= 0 && i < 24; i++)
		if (write(fd, buf, sizeof(buf)) < 0)
			break;
	close(fd);
}

static void load_compact(void)
{
	write_file("/proc/sys/vm/compact_memory", "1");
}

/* The limit is above what load_anon() has: this is not about OOM kills. */
static void load_group(void)
{
	pid_t pid;

	if (group_make(GROUP, 48))
		_exit(1);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		group_enter(GROUP);
		load_anon();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	group_remove(GROUP);
}

static void load_switch(void)
{
	write_file(LRU_GEN, "7");
	usleep(200000);
	write_file(LRU_GEN, "0");
	usleep(200000);
}

static void (*const loads[])(void) = {
	load_mlock, load_mlock, load_anon, load_file, load_compact, load_group,
};

TEST_F_TIMEOUT(lru, under_load, 600)
{
	struct workers workers = {};
	struct backed swap = {};
	unsigned int i, runs = 0;
	long long suspects = 0;
	time_t end;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!group_root())
		SKIP(return, "needs the memory controller");

	ASSERT_EQ(0, swap_open(&swap, 256));
	for (i = 0; i < ARRAY_SIZE(loads); i++)
		ASSERT_EQ(0, worker_start(&workers, loads[i]));
	/* Half of the time while lists are converted. */
	end = time(NULL) + LOAD_SECONDS;
	while (time(NULL) < end) {
		if (time(NULL) == end - LOAD_SECONDS / 2 &&
		    workers.nr == ARRAY_SIZE(loads) && lru_gen_present())
			ASSERT_EQ(0, worker_start(&workers, load_switch));
		ASSERT_EQ(0, verify_and_read());
		ASSERT_EQ(0, violations()) TH_LOG("%s", line);
		suspects += verify_number(line, "suspects");
		runs++;
	}
	EXPECT_EQ(0, workers_end(&workers));
	/* What swapoff brings back would be charged to it. */
	group_remove(GROUP);
	swap_close(&swap);
	TH_LOG("%u runs, %lld folios on their way off a list", runs, suspects);
	EXPECT_LT(1, runs);

	ASSERT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
}

/* Each finding, planted: found under its name, and gone afterwards. */
FIXTURE(inject) {
};

FIXTURE_VARIANT(inject) {
	const char *finding;
	const char *gen;
	bool group;
	bool node;
};

FIXTURE_VARIANT_ADD(inject, flag) {
	.finding = "flag", .gen = "0",
};

FIXTURE_VARIANT_ADD(inject, gens_flag) {
	.finding = "flag", .gen = "7",
};

FIXTURE_VARIANT_ADD(inject, list) {
	.finding = "list", .gen = "0",
};

FIXTURE_VARIANT_ADD(inject, gens_list) {
	.finding = "list", .gen = "7",
};

FIXTURE_VARIANT_ADD(inject, lruvec) {
	.finding = "lruvec", .gen = "0", .group = true,
};

FIXTURE_VARIANT_ADD(inject, gens_lruvec) {
	.finding = "lruvec", .gen = "7", .group = true,
};

FIXTURE_VARIANT_ADD(inject, links) {
	.finding = "links", .gen = "0",
};

FIXTURE_VARIANT_ADD(inject, gens_links) {
	.finding = "links", .gen = "7",
};

FIXTURE_VARIANT_ADD(inject, lost) {
	.finding = "lost", .gen = "0",
};

FIXTURE_VARIANT_ADD(inject, gens_lost) {
	.finding = "lost", .gen = "7",
};

FIXTURE_VARIANT_ADD(inject, lru_size) {
	.finding = "lru_size", .gen = "0", .group = true,
};

FIXTURE_VARIANT_ADD(inject, gen_size) {
	.finding = "gen_size", .gen = "7",
};

FIXTURE_VARIANT_ADD(inject, node_size) {
	.finding = "node_size", .gen = "0", .node = true,
};

FIXTURE_SETUP(inject)
{
	if (!verify_present())
		return;
	ASSERT_EQ(0, backed_open(&disk, "tmpfs", "kinds", 8));
	if (lru_gen_present())
		write_file(LRU_GEN, variant->gen);
}

FIXTURE_TEARDOWN(inject)
{
	if (lru_gen_present())
		write_file(LRU_GEN, "0");
	backed_close(&disk);
}

TEST_F_TIMEOUT(inject, caught_and_undone, 300)
{
	bool group = false;
	char want[64];

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	if (!lru_gen_present())
		SKIP(return, "needs CONFIG_LRU_GEN");
	if (variant->group && !group_root())
		SKIP(return, "needs the memory controller");
	if (variant->node && group_root())
		SKIP(return, "needs cgroup_disable=memory");

	ASSERT_NE(NULL, kinds());
	if (variant->group)
		group = !group_make("verify_lru", 0);
	ASSERT_EQ(variant->group, group);

	EXPECT_EQ(0, verify_inject(VERIFIER, variant->finding));
	EXPECT_EQ(0, verify_line(VERIFIER, line, sizeof(line)));
	snprintf(want, sizeof(want), " injected=%s:caught", variant->finding);
	EXPECT_NE(NULL, strstr(line, want)) TH_LOG("%s", line);
	EXPECT_EQ(1, violations()) TH_LOG("%s", line);

	EXPECT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
	EXPECT_EQ(NULL, strstr(line, "injected=")) TH_LOG("%s", line);
	EXPECT_EQ(0, group ? group_remove("verify_lru") : 0);
}

TEST_HARNESS_MAIN
