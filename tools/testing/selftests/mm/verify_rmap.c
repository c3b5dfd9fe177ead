// SPDX-License-Identifier: GPL-2.0
/*
 * The rmap verifier: it sees what it says it looks for, it looks at every entry
 * of every kind of page, and it is silent on a kernel that works, however busy.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "../kselftest_harness.h"
#include "mm_verify.h"
#include "verify_rmap.h"
#include "verify_rmap_load.h"

#define VERIFIER	"rmap"
#define LOAD_SECONDS	20

/* What no kernel may have, idle or busy: all of it. */
static const char * const findings[] = {
	"unmapped", "anon_vma", "index", "file", "anon_tree", "file_tree",
	"dead", "too_many", "too_few", "negative", "double_map",
};

static char line[2048];

static int verify_and_read(void)
{
	int ret = verify_run(VERIFIER);

	return ret ? ret : verify_line(VERIFIER, line, sizeof(line));
}

/* Findings of the last run, and what it left out; 0 when it was silent. */
static long long noise(void)
{
	long long sum = 0, n;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(findings); i++) {
		n = verify_number(line, findings[i]);
		if (n < 0)
			return -1;
		sum += n;
	}
	return sum;
}

FIXTURE(rmap) {
};

FIXTURE_SETUP(rmap)
{
	sizes();
}

FIXTURE_TEARDOWN(rmap)
{
	let_go();
	restore_settings();
}

/* Nothing found, and nothing left out. */
static void expect_silent(struct __test_metadata *_metadata, const char *when)
{
	EXPECT_EQ(0, noise()) TH_LOG("%s: %s", when, line);
	EXPECT_EQ(0, verify_number(line, "unproven_folios"))
		TH_LOG("%s: %s", when, line);
}

TEST_F_TIMEOUT(rmap, idle, 300)
{
	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_EQ(0, verify_and_read());
	TH_LOG("idle: %s", line);
	expect_silent(_metadata, "idle");
	EXPECT_LT(0, verify_number(line, "mms"));
	EXPECT_LT(0, verify_number(line, "entries"));
	EXPECT_LT(0, verify_number(line, "folios"));
}

/* It walks what is mapped, all of it, in both passes. */
TEST_F_TIMEOUT(rmap, walks_every_entry, 300)
{
	long long entries, folios;
	size_t pages = 5000;
	char *at;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	at = map_anon(pages * page_size);
	ASSERT_NE(NULL, at);
	madvise(at, pages * page_size, MADV_NOHUGEPAGE);
	ASSERT_EQ(0, verify_and_read());
	entries = verify_number(line, "entries");
	folios = verify_number(line, "folios");
	touch(at, pages * page_size, 1);
	ASSERT_EQ(0, hold_child(NULL, NULL));

	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "mapped twice");
	entries = verify_number(line, "entries") - entries;
	folios = verify_number(line, "folios") - folios;
	TH_LOG("%zu pages in two processes: %lld entries, %lld folios more",
	       pages, entries, folios);
	/* The child maps a little besides, and others come and go. */
	EXPECT_LE((long long)pages * 2 - 500, entries);
	EXPECT_GT((long long)pages * 2 + 2000, entries);
	EXPECT_LE((long long)pages - 100, folios);
	EXPECT_GT((long long)pages + 1000, folios);
}

/* A hold of one entry at a time must not lose any. */
TEST_F_TIMEOUT(rmap, bounded_hold, 300)
{
	long long entries;
	char hold[32];

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_EQ(0, verify_and_read());
	entries = verify_number(line, "entries");
	ASSERT_LT(0, read_file(VERIFY_DIR "max_hold", hold, sizeof(hold)));
	ASSERT_EQ(0, write_file(VERIFY_DIR "max_hold", "1"));
	EXPECT_EQ(0, verify_and_read());
	EXPECT_EQ(0, write_file(VERIFY_DIR "max_hold", hold));
	EXPECT_EQ(0, noise()) TH_LOG("%s", line);
	EXPECT_LT(entries - 500, verify_number(line, "entries"));
}

/*
 * Every way in which a page can be mapped, held while the verifier looks.
 */
static void split_pmd(void *at)
{
	/* The first page's protection differs: the PMD becomes a table. */
	mprotect(at, page_size, PROT_READ);
}

TEST_F_TIMEOUT(rmap, thp, 300)
{
	char *whole, *parts, *both, *moved, *zero, *to;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!huge_size)
		SKIP(return, "needs CONFIG_TRANSPARENT_HUGEPAGE");

	ASSERT_EQ(0, set(THP "enabled", "always"));
	whole = map_aligned(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	parts = map_aligned(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	both = map_aligned(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	moved = map_aligned(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	zero = map_aligned(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_TRUE(whole && parts && both && moved && zero);
	memset(whole, 1, huge_size);
	memset(parts, 2, huge_size);
	memset(both, 3, huge_size);
	memset(moved, 4, huge_size);
	look(zero, huge_size);
	EXPECT_EQ((long long)huge_size / 1024,
		  smaps_kb(whole, "AnonHugePages:"));

	/* PTEs only, some of them gone. */
	split_pmd(parts);
	madvise(parts + huge_size / 2, page_size * 3, MADV_DONTNEED);
	EXPECT_EQ(0, smaps_kb(parts + page_size, "AnonHugePages:"));

	/* At an address where the huge page is in two page tables. */
	to = map_anon(2 * huge_size);
	ASSERT_NE(NULL, to);
	to = (char *)(((unsigned long)to + huge_size - 1) & ~(huge_size - 1)) +
	     page_size * 5;
	ASSERT_EQ(to, mremap(moved, huge_size, huge_size,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));

	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "one process");

	/* A PMD here, PTEs there: PageDoubleMap. */
	ASSERT_EQ(0, hold_child(NULL, NULL));
	ASSERT_EQ(0, hold_child(split_pmd, both));
	ASSERT_EQ(0, hold_child(split_pmd, whole));
	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "forked");

	split_pmd(both);
	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "split everywhere but in one child");
	let_go();
	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "alone again");
}

/*
 * A huge page that is in two page tables, the first of which then gave way to
 * another huge page. Its second half is still there, and must be found.
 */
TEST_F_TIMEOUT(rmap, behind_another_huge_page, 300)
{
	char *area, *from, *to, command[128];
	long long failed, split;
	size_t half, size;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!huge_size)
		SKIP(return, "needs CONFIG_TRANSPARENT_HUGEPAGE");

	ASSERT_EQ(0, set(THP "enabled", "always"));
	half = huge_size / 2;
	size = huge_size + half;
	area = map_anon(4 * huge_size);
	ASSERT_NE(NULL, area);
	from = (char *)(((unsigned long)area + 2 * huge_size - 1) &
			~(huge_size - 1));
	memset(from, 1, huge_size);
	from[-(long)half] = 2;
	area = map_anon(6 * huge_size);
	ASSERT_NE(NULL, area);
	munmap(area, 6 * huge_size);
	to = (char *)(((unsigned long)area + 2 * huge_size - 1) &
		      ~(huge_size - 1));
	ASSERT_EQ(to, mremap(from - half, size, size,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	ASSERT_EQ(0, madvise(to, huge_size, MADV_DONTNEED));
	to[0] = 3;
	ASSERT_EQ(0, madvise(to, huge_size, MADV_COLLAPSE));

	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "behind another huge page");

	/* To be split, it must be unmapped first. */
	split = vm_counter("thp_split_page");
	failed = vm_counter("thp_split_page_failed");
	ASSERT_LE(0, failed);
	snprintf(command, sizeof(command), "%d,0x%lx,0x%lx", getpid(),
		 (unsigned long)to + huge_size, (unsigned long)to + size);
	ASSERT_EQ(0, write_file("/sys/kernel/debug/split_huge_pages", command));
	EXPECT_EQ(split + 1, vm_counter("thp_split_page"));
	EXPECT_EQ(failed, vm_counter("thp_split_page_failed"));
	EXPECT_EQ(1, to[huge_size]);
	munmap(to, size);
}

TEST_F_TIMEOUT(rmap, file_thp, 300)
{
	char dir[] = "/tmp/verify_rmap.XXXXXX", path[64], *at, *again;
	int fd;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!huge_size)
		SKIP(return, "needs CONFIG_TRANSPARENT_HUGEPAGE");

	mkdir("/tmp", 01777);
	ASSERT_NE(NULL, mkdtemp(dir));
	ASSERT_EQ(0, mount("verify_rmap", dir, "tmpfs", 0, "huge=always"));
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, huge_size));
	at = map_aligned(MAP_SHARED, fd);
	again = map_aligned(MAP_PRIVATE, fd);
	ASSERT_TRUE(at && again);
	memset(at, 1, huge_size);
	look(again, huge_size);
	touch(again, page_size * 7, 2);
	EXPECT_EQ((long long)huge_size / 1024,
		  smaps_kb(at, "ShmemPmdMapped:"));
	ASSERT_EQ(0, hold_child(NULL, NULL));
	ASSERT_EQ(0, hold_child(split_pmd, at));
	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "PMDs and PTEs");

	split_pmd(at);
	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "split");
	let_go();
	munmap(at, huge_size);
	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "unmapped");
	munmap(again, huge_size);
	close(fd);
	EXPECT_EQ(0, umount2(dir, MNT_DETACH));
	rmdir(dir);
}

TEST_F_TIMEOUT(rmap, small_pages, 300)
{
	char path[] = "/tmp/verify_rmap.XXXXXX", *anon, *shared, *private;
	size_t size = 300 * page_size;
	int file, mem;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	mkdir("/tmp", 01777);
	file = mkstemp(path);
	ASSERT_LE(0, file);
	unlink(path);
	mem = memfd_create("verify_rmap", 0);
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, ftruncate(file, size));
	ASSERT_EQ(0, ftruncate(mem, size));

	anon = map_anon(size);
	shared = map(size, MAP_SHARED, file);
	private = map(size, MAP_PRIVATE, mem);
	ASSERT_TRUE(anon && shared && private);
	madvise(anon, size, MADV_NOHUGEPAGE);
	/* The zero page, pages of our own, and what no access can reach. */
	look(anon, size);
	touch(anon, size / 2, 1);
	mprotect(anon, page_size * 10, PROT_NONE);
	touch(shared, size, 2);
	look(private, size);
	touch(private, size / 2, 3);
	madvise(anon, page_size * 40, MADV_PAGEOUT);
	ASSERT_EQ(0, hold_child(NULL, NULL));
	ASSERT_EQ(0, hold_child(NULL, NULL));
	/* Copied, moved, split. */
	touch(anon + size / 4, size / 2, 4);
	ASSERT_NE(MAP_FAILED, mremap(shared, size, 2 * size, MREMAP_MAYMOVE));
	munmap(anon + size / 2, page_size);
	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "small pages");
	close(file);
	close(mem);
}

static void write_first(void *at)
{
	*(char *)at = 9;
}

TEST_F_TIMEOUT(rmap, hugetlb, 300)
{
	size_t size, pud = 1UL << 30;
	char text[4096], *at, *private, *shared, *aligned;
	int fd;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_LT(0, read_file("/proc/meminfo", text, sizeof(text)));
	at = strstr(text, "Hugepagesize:");
	if (!at)
		SKIP(return, "needs CONFIG_HUGETLBFS");
	size = strtoul(at + strlen("Hugepagesize:"), NULL, 10) * 1024;
	ASSERT_EQ(0, set("/proc/sys/vm/nr_hugepages", "16"));

	private = map(2 * size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	if (!private)
		SKIP(return, "no huge pages to be had");
	touch(private, 2 * size, 1);
	ASSERT_EQ(0, hold_child(write_first, private));
	ASSERT_EQ(0, hold_child(NULL, NULL));

	/* So long and so aligned that processes share the page table. */
	fd = memfd_create("verify_rmap", MFD_HUGETLB);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, pud));
	shared = mmap(NULL, 2 * pud, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, shared);
	aligned = (char *)(((unsigned long)shared + pud - 1) & ~(pud - 1));
	ASSERT_EQ(aligned, mmap(aligned, pud, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0));
	aligned[0] = 1;
	aligned[size] = 2;
	ASSERT_EQ(0, hold_child(write_first, aligned));
	ASSERT_EQ(0, hold_child(write_first, aligned));
	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "hugetlb");
	let_go();
	munmap(private, 2 * size);
	munmap(shared, 2 * pud);
	close(fd);
}

TEST_F_TIMEOUT(rmap, ksm, 300)
{
	size_t size = 100 * page_size;
	char text[32], *at;
	int tries;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (access(KSM "run", W_OK))
		SKIP(return, "needs CONFIG_KSM");

	at = map_anon(size);
	ASSERT_NE(NULL, at);
	madvise(at, size, MADV_NOHUGEPAGE);
	memset(at, 7, size);
	ASSERT_EQ(0, madvise(at, size, MADV_MERGEABLE));
	ASSERT_EQ(0, set(KSM "pages_to_scan", "2000"));
	ASSERT_EQ(0, set(KSM "run", "1"));
	for (tries = 0; tries < 300; tries++) {
		usleep(100000);
		ASSERT_LT(0, read_file(KSM "pages_sharing", text,
				       sizeof(text)));
		if (atoi(text) >= 98)
			break;
	}
	EXPECT_LE(98, atoi(text));
	ASSERT_EQ(0, hold_child(NULL, NULL));
	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "KSM");
	EXPECT_LT(0, verify_number(line, "ksm_folios"));
	let_go();
	EXPECT_EQ(0, madvise(at, size, MADV_UNMERGEABLE));
}

/*
 * Collapses small pages over and over, and waits with each of them when it is
 * copied and not yet unmapped.
 */
#define COLLAPSE_US	150000
#define COLLAPSE_PAGES	4

static void collapse_forever(void *arg)
{
	char *at = arg;
	int delay;

	if (fork())
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	delay = delay_open();
	if (delay < 0 || delay_set(delay, "collapse", COLLAPSE_US))
		_exit(1);
	for (;;) {
		madvise(at, huge_size, MADV_DONTNEED);
		touch(at, COLLAPSE_PAGES * page_size, 1);
		madvise(at, huge_size, MADV_COLLAPSE);
	}
}

/* What is locked can be found by its reverse map, also while it is collapsed. */
TEST_F_TIMEOUT(rmap, collapse, 300)
{
	long long waits, found = 0, unproven = 0;
	int delay, run;
	char *at;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!huge_size)
		SKIP(return, "needs CONFIG_TRANSPARENT_HUGEPAGE");
	delay = delay_open();
	if (delay < 0)
		SKIP(return, "needs CONFIG_DEBUG_VM_VERIFY_INJECT");

	ASSERT_EQ(0, set(THP "enabled", "never"));
	at = map_aligned(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_NE(NULL, at);
	touch(at, COLLAPSE_PAGES * page_size, 1);
	if (madvise(at, huge_size, MADV_COLLAPSE))
		SKIP(return, "needs MADV_COLLAPSE");
	waits = delay_entered(delay, "collapse");
	ASSERT_LE(0, waits);

	/* Each run waits for a collapse to end first, and is into the next. */
	ASSERT_EQ(0, hold_child(collapse_forever, at));
	for (run = 0; run < 20; run++) {
		ASSERT_EQ(0, verify_and_read());
		found += noise();
		unproven += verify_number(line, "unproven_folios");
	}
	waits = delay_entered(delay, "collapse") - waits;
	TH_LOG("%d runs, %lld waits: %lld found, %lld unproven", run, waits,
	       found, unproven);
	EXPECT_EQ(0, found) TH_LOG("%s", line);
	EXPECT_EQ(0, unproven) TH_LOG("%s", line);
	EXPECT_LE(20, waits);
	close(delay);
}

TEST_F_TIMEOUT(rmap, silent_under_load, 600)
{
	long long stops = 0, busy = 0, unproven = 0, folios = 0;
	pid_t pids[ARRAY_SIZE(loads)];
	int status, runs = 0;
	unsigned int i;
	time_t end;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	if (huge_size)
		ASSERT_EQ(0, set(THP "enabled", "always"));
	if (!access(KSM "run", W_OK)) {
		ASSERT_EQ(0, set(KSM "pages_to_scan", "2000"));
		ASSERT_EQ(0, set(KSM "run", "1"));
	}
	/* The verifier is to run, and not to wait for its turn. */
	end = time(NULL) + LOAD_SECONDS;
	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i])
			until(end, loads[i]);
	}
	setpriority(PRIO_PROCESS, 0, -20);
	while (time(NULL) < end) {
		ASSERT_EQ(0, verify_and_read());
		EXPECT_EQ(0, noise()) TH_LOG("%s", line);
		runs++;
		folios += verify_number(line, "folios");
		stops += verify_number(line, "stops");
		busy += verify_number(line, "busy_folios");
		unproven += verify_number(line, "unproven_folios");
	}
	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status) TH_LOG("load %u", i);
	}
	setpriority(PRIO_PROCESS, 0, 0);
	TH_LOG("%d runs: %lld folios, %lld stops, %lld busy, %lld unproven",
	       runs, folios, stops, busy, unproven);
	EXPECT_LT(0, runs);

	ASSERT_EQ(0, verify_and_read());
	expect_silent(_metadata, "after the load");
}

/* Each finding, planted: found under its name, and gone afterwards. */
FIXTURE(inject) {
};

FIXTURE_VARIANT(inject) {
	const char *finding;
};

FIXTURE_VARIANT_ADD(inject, unmapped) {
	.finding = "unmapped",
};

FIXTURE_VARIANT_ADD(inject, anon_vma) {
	.finding = "anon_vma",
};

FIXTURE_VARIANT_ADD(inject, index) {
	.finding = "index",
};

FIXTURE_VARIANT_ADD(inject, file) {
	.finding = "file",
};

FIXTURE_VARIANT_ADD(inject, anon_tree) {
	.finding = "anon_tree",
};

FIXTURE_VARIANT_ADD(inject, file_tree) {
	.finding = "file_tree",
};

FIXTURE_VARIANT_ADD(inject, dead) {
	.finding = "dead",
};

FIXTURE_VARIANT_ADD(inject, too_many) {
	.finding = "too_many",
};

FIXTURE_VARIANT_ADD(inject, too_few) {
	.finding = "too_few",
};

FIXTURE_VARIANT_ADD(inject, negative) {
	.finding = "negative",
};

FIXTURE_VARIANT_ADD(inject, double_map) {
	.finding = "double_map",
};

FIXTURE_SETUP(inject)
{
	sizes();
}

FIXTURE_TEARDOWN(inject)
{
	restore_settings();
}

TEST_F_TIMEOUT(inject, caught_and_undone, 300)
{
	char want[64], *at = NULL;
	long long before;

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);

	/* A huge page that only PTEs map is what double_map is planted on. */
	if (!strcmp(variant->finding, "double_map")) {
		if (!huge_size)
			SKIP(return, "needs CONFIG_TRANSPARENT_HUGEPAGE");
		ASSERT_EQ(0, set(THP "enabled", "always"));
		at = map_aligned(MAP_PRIVATE | MAP_ANONYMOUS, -1);
		ASSERT_NE(NULL, at);
		memset(at, 1, huge_size);
		split_pmd(at);
	}

	ASSERT_EQ(0, verify_and_read());
	before = verify_number(line, variant->finding);
	ASSERT_LE(0, before);

	ASSERT_EQ(0, verify_inject(VERIFIER, variant->finding));
	ASSERT_EQ(0, verify_line(VERIFIER, line, sizeof(line)));
	snprintf(want, sizeof(want), " injected=%s:caught", variant->finding);
	EXPECT_NE(NULL, strstr(line, want)) TH_LOG("%s", line);
	EXPECT_EQ(before + 1, verify_number(line, variant->finding))
		TH_LOG("%s", line);

	ASSERT_EQ(0, verify_and_read());
	EXPECT_EQ(before, verify_number(line, variant->finding))
		TH_LOG("%s", line);
	EXPECT_EQ(NULL, strstr(line, "injected=")) TH_LOG("%s", line);
}

TEST_HARNESS_MAIN
