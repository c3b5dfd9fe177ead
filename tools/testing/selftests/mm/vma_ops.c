// SPDX-License-Identifier: GPL-2.0
/*
 * Each way in which VMAs are split, merged, grown, shrunk and moved, and what
 * /proc/self/maps has afterwards. The cases of a merge have the numbers that
 * they have above vma_merge() in mm/mmap.c.
 */
#include <sys/resource.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "vma_ops.h"

#define HUGE	(2UL << 20)

FIXTURE(ops) {
};

/* VMAs with pages have anon_vmas, which decide too what can be merged. */
FIXTURE_VARIANT(ops) {
	bool touched;
};

FIXTURE_VARIANT_ADD(ops, empty) {
	.touched = false,
};

FIXTURE_VARIANT_ADD(ops, touched) {
	.touched = true,
};

FIXTURE_SETUP(ops)
{
	ASSERT_TRUE(map_at(0, 12, RW));
	if (variant->touched)
		touch(0, 12);
}

static void expect_verified(struct __test_metadata *_metadata)
{
	static char line[2048];

	if (!verify_present())
		return;
	/* A kernel without this verifier says -EINVAL. */
	if (verify_run("vma"))
		return;
	ASSERT_EQ(0, verify_line("vma", line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, " range=0/0 twice=0/0 vm_mm=0/0 map_count=0/0 total_vm=0/0 "))
		TH_LOG("%s", line);
	EXPECT_NE(NULL, strstr(line, " anon_chain=0/0 anon_tree=0/0 i_mmap=0/0 "))
		TH_LOG("%s", line);
}

/* Pages are where they were written, or still empty. */
static void expect_pages(struct __test_metadata *_metadata, bool touched,
			 unsigned long from, unsigned long to)
{
	unsigned long i;

	for (i = from; i < to; i++)
		EXPECT_EQ(touched ? (char)(i + 1) : 0, AREA[i * PG]);
}

FIXTURE_TEARDOWN(ops)
{
	expect_verified(_metadata);
	munmap(AREA, AREA_PAGES * PG);
}

TEST_F(ops, split_tail)
{
	EXPECT_EQ(0, protect(8, 4, PROT_READ));
	EXPECT_STREQ("0-8 rw, 8-12 r-", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

TEST_F(ops, split_head)
{
	EXPECT_EQ(0, protect(0, 4, PROT_READ));
	EXPECT_STREQ("0-4 r-, 4-12 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

TEST_F(ops, split_middle)
{
	EXPECT_EQ(0, protect(4, 4, PROT_READ));
	EXPECT_STREQ("0-4 rw, 4-8 r-, 8-12 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

TEST_F(ops, unmap_middle)
{
	EXPECT_EQ(0, munmap(AREA + 4 * PG, 4 * PG));
	EXPECT_STREQ("0-4 rw, 8-12 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 4);
	expect_pages(_metadata, variant->touched, 8, 12);
}

TEST_F(ops, unmap_ends)
{
	EXPECT_EQ(0, munmap(AREA, 4 * PG));
	EXPECT_EQ(0, munmap(AREA + 8 * PG, 4 * PG));
	EXPECT_STREQ("4-8 rw", shape());
	expect_pages(_metadata, variant->touched, 4, 8);
}

TEST_F(ops, unmap_across)
{
	EXPECT_EQ(0, protect(3, 3, PROT_READ));
	EXPECT_EQ(0, protect(7, 3, PROT_READ));
	EXPECT_EQ(0, munmap(AREA + 2 * PG, 6 * PG));
	EXPECT_STREQ("0-2 rw, 8-10 r-, 10-12 rw", shape());
	expect_pages(_metadata, variant->touched, 8, 12);
}

/* A hole that is filled again, which merges on both sides: case 1. */
TEST_F(ops, merge_case1)
{
	EXPECT_EQ(0, munmap(AREA + 4 * PG, 4 * PG));
	EXPECT_TRUE(map_at(4, 4, RW));
	EXPECT_STREQ("0-12 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 4);
	expect_pages(_metadata, false, 4, 8);
	expect_pages(_metadata, variant->touched, 8, 12);
}

TEST_F(ops, merge_case2)
{
	EXPECT_EQ(0, munmap(AREA + 4 * PG, 8 * PG));
	EXPECT_TRUE(map_at(8, 4, PROT_READ));
	EXPECT_TRUE(map_at(4, 4, RW));
	EXPECT_STREQ("0-8 rw, 8-12 r-", shape());
	expect_pages(_metadata, variant->touched, 0, 4);
}

TEST_F(ops, merge_case3)
{
	EXPECT_EQ(0, munmap(AREA, 8 * PG));
	EXPECT_TRUE(map_at(0, 4, PROT_READ));
	EXPECT_TRUE(map_at(4, 4, RW));
	EXPECT_STREQ("0-4 r-, 4-12 rw", shape());
	expect_pages(_metadata, variant->touched, 8, 12);
}

TEST_F(ops, merge_case4)
{
	EXPECT_EQ(0, protect(6, 6, PROT_READ));
	EXPECT_EQ(0, protect(3, 3, PROT_READ));
	EXPECT_STREQ("0-3 rw, 3-12 r-", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

TEST_F(ops, merge_case5)
{
	EXPECT_EQ(0, protect(6, 6, PROT_READ));
	EXPECT_EQ(0, protect(6, 3, RW));
	EXPECT_STREQ("0-9 rw, 9-12 r-", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

TEST_F(ops, merge_case6)
{
	EXPECT_EQ(0, protect(4, 4, PROT_READ));
	EXPECT_EQ(0, protect(4, 4, RW));
	EXPECT_STREQ("0-12 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

TEST_F(ops, merge_case7)
{
	EXPECT_EQ(0, protect(4, 4, PROT_READ));
	EXPECT_EQ(0, protect(8, 4, RW | PROT_EXEC));
	EXPECT_EQ(0, protect(4, 4, RW));
	EXPECT_STREQ("0-8 rw, 8-12 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

TEST_F(ops, merge_case8)
{
	EXPECT_EQ(0, protect(4, 4, PROT_READ));
	EXPECT_EQ(0, protect(0, 4, RW | PROT_EXEC));
	EXPECT_EQ(0, protect(4, 4, RW));
	EXPECT_STREQ("0-4 rw, 4-12 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

/* The VMA that is left has no anon_vma of its own, the one merged into it has. */
TEST_F(ops, merge_takes_anon_vma)
{
	EXPECT_TRUE(map_at(20, 2, RW));
	EXPECT_TRUE(map_at(24, 2, RW));
	AREA[24 * PG] = 42;
	EXPECT_EQ(AREA + 20 * PG, mremap(AREA + 20 * PG, 2 * PG, 4 * PG, 0));
	EXPECT_STREQ("0-12 rw, 20-26 rw", shape());
	EXPECT_EQ(42, AREA[24 * PG]);
	EXPECT_EQ(0, AREA[20 * PG]);
	AREA[20 * PG] = 41;
	EXPECT_EQ(41, AREA[20 * PG]);
}

TEST_F(ops, mremap_shrink)
{
	EXPECT_EQ(AREA, mremap(AREA, 12 * PG, 4 * PG, 0));
	EXPECT_STREQ("0-4 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 4);
}

TEST_F(ops, mremap_grow)
{
	EXPECT_EQ(AREA, mremap(AREA, 12 * PG, 20 * PG, 0));
	EXPECT_STREQ("0-20 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

/* Into the hole before a VMA that then is of one piece with it. */
TEST_F(ops, mremap_grow_merge)
{
	EXPECT_EQ(0, munmap(AREA + 4 * PG, 4 * PG));
	EXPECT_EQ(AREA, mremap(AREA, 4 * PG, 8 * PG, 0));
	EXPECT_STREQ("0-12 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 4);
	expect_pages(_metadata, variant->touched, 8, 12);
}

TEST_F(ops, mremap_move)
{
	char *to = AREA + 1024 * PG;
	unsigned long i;

	EXPECT_EQ(to, mremap(AREA + 4 * PG, 4 * PG, 4 * PG,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_STREQ("0-4 rw, 8-12 rw, 1024-1028 rw", shape());
	for (i = 0; i < 4; i++)
		EXPECT_EQ(variant->touched ? (char)(5 + i) : 0, to[i * PG]);
}

/* Away and back again: of one piece. */
TEST_F(ops, mremap_back)
{
	char *to = AREA + 1024 * PG;

	EXPECT_EQ(to, mremap(AREA + 4 * PG, 4 * PG, 4 * PG,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(AREA + 4 * PG, mremap(to, 4 * PG, 4 * PG, MREMAP_MAYMOVE |
					MREMAP_FIXED, AREA + 4 * PG));
	EXPECT_STREQ("0-12 rw", shape());
	expect_pages(_metadata, variant->touched, 0, 12);
}

TEST_F(ops, mremap_dontunmap)
{
	char *to = AREA + 1024 * PG;
	unsigned long i;

	EXPECT_EQ(to, mremap(AREA, 12 * PG, 12 * PG, MREMAP_MAYMOVE |
			     MREMAP_FIXED | MREMAP_DONTUNMAP, to));
	EXPECT_STREQ("0-12 rw, 1024-1036 rw", shape());
	for (i = 0; i < 12; i++)
		EXPECT_EQ(variant->touched ? (char)(i + 1) : 0, to[i * PG]);
	expect_pages(_metadata, false, 0, 12);
}

TEST_F(ops, mlock)
{
	long long locked = field("/proc/self/status", "VmLck:");

	EXPECT_EQ(0, mlock(AREA + 4 * PG, 4 * PG));
	EXPECT_STREQ("0-4 rw, 4-8 rw, 8-12 rw", shape());
	EXPECT_EQ(locked + 16, field("/proc/self/status", "VmLck:"));
	EXPECT_EQ(0, munlock(AREA + 4 * PG, 4 * PG));
	/* mlock() has faulted pages in: an anon_vma, which empty VMAs lack. */
	EXPECT_STREQ(variant->touched ? "0-12 rw" :
		     "0-4 rw, 4-8 rw, 8-12 rw", shape());
	EXPECT_EQ(locked, field("/proc/self/status", "VmLck:"));
	expect_pages(_metadata, variant->touched, 0, 12);
}

TEST_F(ops, madvise)
{
	EXPECT_EQ(0, madvise(AREA + 4 * PG, 4 * PG, MADV_DONTFORK));
	EXPECT_STREQ("0-4 rw, 4-8 rw, 8-12 rw", shape());
	EXPECT_EQ(0, madvise(AREA + 4 * PG, 4 * PG, MADV_DOFORK));
	EXPECT_STREQ("0-12 rw", shape());
}

TEST_F(ops, brk)
{
	struct vma_line line[8];
	char *heap = sbrk(0);
	unsigned long i;

	heap += -(unsigned long)heap & (PG - 1);
	ASSERT_EQ(0, brk(heap + 64 * PG));
	if (variant->touched)
		for (i = 0; i < 64; i++)
			heap[i * PG] = i + 1;
	ASSERT_EQ(1, vmas_in(heap, heap + 64 * PG, line, 8));
	EXPECT_EQ((unsigned long)heap + 64 * PG, line[0].end);

	ASSERT_EQ(0, brk(heap + 16 * PG));
	ASSERT_EQ(1, vmas_in(heap, heap + 64 * PG, line, 8));
	EXPECT_EQ((unsigned long)heap + 16 * PG, line[0].end);

	ASSERT_EQ(0, brk(heap + 32 * PG));
	ASSERT_EQ(1, vmas_in(heap, heap + 64 * PG, line, 8));
	EXPECT_EQ((unsigned long)heap + 32 * PG, line[0].end);
	for (i = 0; i < 16; i++)
		EXPECT_EQ(variant->touched ? (char)(i + 1) : 0, heap[i * PG]);
	for (i = 16; i < 32; i++)
		EXPECT_EQ(0, heap[i * PG]);
	ASSERT_EQ(0, brk(heap));
}

/* A VMA that cannot be removed can still grow: its operations have a close(). */
TEST(mremap_grow_shm)
{
	struct vma_line line[4];
	char *map;
	int fd;

	fd = open("/dev/zero", O_RDWR);
	ASSERT_LE(0, fd);
	map = mmap(AREA, 4 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ(AREA, map);
	map[0] = 1;
	EXPECT_EQ(map, mremap(map, 4 * PG, 8 * PG, 0));
	ASSERT_EQ(1, vmas_in(AREA, AREA + AREA_PAGES * PG, line, 4));
	EXPECT_EQ(8 * PG, line[0].end - line[0].start);
	EXPECT_EQ(1, map[0]);
	munmap(AREA, AREA_PAGES * PG);
}

/* execve() maps the stack, then moves it down. Arguments come along with it. */
TEST(exec_stack)
{
	static char arg[64 << 10];
	char *argv[12] = { "sh", "-c", "[ ${#1} = 65535 ] && [ ${#7} = 65535 ]",
			   "sh" };
	int status, i, n;
	pid_t pid;

	memset(arg, 'x', sizeof(arg) - 1);
	for (i = 4; i < 11; i++)
		argv[i] = arg;
	argv[11] = NULL;
	for (n = 0; n < 20; n++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			execv("/bin/sh", argv);
			_exit(127);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
	}
	expect_verified(_metadata);
}

/* ---- hugetlbfs ---- */

static long long splats(void)
{
	static char buf[8192];
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	long long n = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	for (;;) {
		got = read(fd, buf, sizeof(buf) - 1);
		if (got < 0 && errno == EPIPE)
			continue;
		if (got <= 0)
			break;
		buf[got] = '\0';
		n += !!strstr(buf, "WARNING:");
	}
	close(fd);
	return n;
}

FIXTURE(hugetlb) {
	char pages[32];
	char *map;
};

FIXTURE_SETUP(hugetlb)
{
	self->map = MAP_FAILED;
	if (geteuid())
		return;
	read_file("/proc/sys/vm/nr_hugepages", self->pages,
		  sizeof(self->pages));
	write_file("/proc/sys/vm/nr_hugepages", "4");
	self->map = mmap(NULL, 4 * HUGE, RW, MAP_SHARED | MAP_ANONYMOUS |
			 MAP_HUGETLB | MAP_NORESERVE, -1, 0);
}

FIXTURE_TEARDOWN(hugetlb)
{
	if (self->map != MAP_FAILED)
		munmap(self->map, 4 * HUGE);
	if (!geteuid())
		write_file("/proc/sys/vm/nr_hugepages", self->pages);
}

/*
 * Page tables that are shared between processes end where the VMA is cut, under
 * the lock of the file's i_mmap: hugetlb_split() asks lockdep for it.
 */
TEST_F(hugetlb, split_locked)
{
	struct vma_line line[8];
	long long before;

	if (self->map == MAP_FAILED)
		SKIP(return, "needs root and 4 huge pages");
	if (access("/proc/lockdep_stats", F_OK))
		SKIP(return, "needs CONFIG_PROVE_LOCKING");
	before = splats();
	ASSERT_LE(0, before);
	self->map[0] = 1;
	self->map[HUGE] = 2;
	EXPECT_EQ(0, mprotect(self->map + HUGE, HUGE, PROT_READ));
	EXPECT_EQ(3, vmas_in(self->map, self->map + 4 * HUGE, line, 8));
	EXPECT_EQ(0, munmap(self->map + 2 * HUGE, HUGE));
	EXPECT_EQ(3, vmas_in(self->map, self->map + 4 * HUGE, line, 8));
	EXPECT_EQ(1, self->map[0]);
	EXPECT_EQ(2, self->map[HUGE]);
	EXPECT_EQ(before, splats());
	expect_verified(_metadata);
}

/* A cut that is no multiple of the page size is refused, and nothing is cut. */
TEST_F(hugetlb, split_refused)
{
	struct vma_line line[8];

	if (self->map == MAP_FAILED)
		SKIP(return, "needs root and 4 huge pages");
	EXPECT_EQ(-1, munmap(self->map + PG, HUGE));
	EXPECT_EQ(1, vmas_in(self->map, self->map + 4 * HUGE, line, 8));
	EXPECT_EQ(-1, mprotect(self->map, PG, PROT_READ));
	EXPECT_EQ(1, vmas_in(self->map, self->map + 4 * HUGE, line, 8));
	expect_verified(_metadata);
}

TEST_HARNESS_MAIN
