// SPDX-License-Identifier: GPL-2.0
/*
 * System calls that change VMAs, with their first, second, ... allocation
 * failing until none is left to fail. A call that failed has changed nothing:
 * maps, VmLck and VmSize are what they were, and Committed_AS comes back to
 * what it was when the process is gone.
 */
#include <linux/mempolicy.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "vma_ops.h"

#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define SEGFAULTS	"/proc/sys/debug/exception-trace"
#define MAX_NTH		200
#define MAX_EXEC_NTH	120
#define MAX_CROWD	255
/* Exit statuses of the child. */
enum { DONE, INJECTED, REFUSED, CHANGED, BROKEN };

static char *heap;
static int crowd;

/* ---- what is set up, and the call. Each returns 0 or -1 with errno. ---- */

static bool one_vma(void)
{
	if (!map_at(0, 12, RW))
		return false;
	touch(0, 12);
	return true;
}

static bool two_vmas(void)
{
	return one_vma() && !protect(6, 6, PROT_READ);
}

static bool three_vmas(int left, int right)
{
	return one_vma() && !protect(4, 4, PROT_READ) &&
	       (left == RW || !protect(0, 4, left)) &&
	       (right == RW || !protect(8, 4, right));
}

static bool set_case1(void)
{
	return one_vma() && !munmap(AREA + 4 * PG, 4 * PG);
}

static long mmap_hole(void)
{
	return mmap(AREA + 4 * PG, 4 * PG, RW,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	       MAP_FAILED ? -1 : 0;
}

static bool set_mmap_new(void)
{
	return true;
}

static long mmap_new(void)
{
	return map_at(1, 1, RW) ? 0 : -1;
}

static int file_fd;

static bool set_file(void)
{
	file_fd = memfd_create("vma_fail", 0);
	return file_fd >= 0 && !ftruncate(file_fd, 64 * PG);
}

static long mmap_file(void)
{
	return mmap(AREA, 4 * PG, RW, MAP_SHARED | MAP_FIXED, file_fd, 0) ==
	       MAP_FAILED ? -1 : 0;
}

static bool set_file_mapped(void)
{
	return set_file() &&
	       mmap(AREA, 8 * PG, RW, MAP_SHARED | MAP_FIXED, file_fd, 0) !=
	       MAP_FAILED;
}

static long munmap_middle(void)
{
	return munmap(AREA + 4 * PG, 4 * PG);
}

static long munmap_low(void)
{
	return munmap(AREA, 4 * PG);
}

static long munmap_file_middle(void)
{
	return munmap(AREA + 2 * PG, 4 * PG);
}

static bool set_many(void)
{
	unsigned long i;

	if (!map_at(0, 64, RW))
		return false;
	for (i = 1; i < 64; i += 2)
		if (protect(i, 1, PROT_READ))
			return false;
	return true;
}

static long munmap_many(void)
{
	return munmap(AREA + 3 * PG, 40 * PG);
}

static long protect_middle(void)
{
	return protect(4, 4, PROT_READ);
}

static bool set_read_only(void)
{
	return map_at(0, 12, PROT_READ);
}

/* Becomes accounted: the charge has to go back. */
static long protect_charge(void)
{
	return protect(4, 4, RW);
}

static long protect_case4(void)
{
	return protect(3, 3, PROT_READ);
}

static long protect_case5(void)
{
	return protect(6, 3, RW);
}

static bool set_case6(void)
{
	return three_vmas(RW, RW);
}

static bool set_case7(void)
{
	return three_vmas(RW, PROT_NONE);
}

static bool set_case8(void)
{
	return three_vmas(PROT_NONE, RW);
}

static long protect_mid(void)
{
	return protect(4, 4, RW);
}

/* The VMA above the hole, not that below, has an anon_vma. */
static bool set_anon_dup(void)
{
	if (!map_at(0, 4, RW) || !map_at(8, 4, RW))
		return false;
	touch(8, 4);
	return true;
}

static long mremap_shrink(void)
{
	return mremap(AREA, 12 * PG, 4 * PG, 0) == MAP_FAILED ? -1 : 0;
}

static long mremap_shrink_inside(void)
{
	return mremap(AREA + 2 * PG, 6 * PG, 2 * PG, 0) == MAP_FAILED ? -1 : 0;
}

static long mremap_grow(void)
{
	return mremap(AREA, 12 * PG, 20 * PG, 0) == MAP_FAILED ? -1 : 0;
}

static long mremap_grow_hole(void)
{
	return mremap(AREA, 4 * PG, 8 * PG, 0) == MAP_FAILED ? -1 : 0;
}

static long mremap_grow_file(void)
{
	return mremap(AREA, 8 * PG, 16 * PG, 0) == MAP_FAILED ? -1 : 0;
}

static long mremap_move(void)
{
	return mremap(AREA, 12 * PG, 12 * PG, MREMAP_MAYMOVE | MREMAP_FIXED,
		      AREA + 1024 * PG) == MAP_FAILED ? -1 : 0;
}

static long mremap_move_middle(void)
{
	return mremap(AREA + 4 * PG, 4 * PG, 4 * PG,
		      MREMAP_MAYMOVE | MREMAP_FIXED,
		      AREA + 1024 * PG) == MAP_FAILED ? -1 : 0;
}

static long mremap_dontunmap(void)
{
	return mremap(AREA, 12 * PG, 12 * PG, MREMAP_MAYMOVE |
		      MREMAP_FIXED | MREMAP_DONTUNMAP,
		      AREA + 1024 * PG) == MAP_FAILED ? -1 : 0;
}

static long mlock_middle(void)
{
	return mlock(AREA + 4 * PG, 4 * PG);
}

static bool set_locked(void)
{
	return one_vma() && !mlock(AREA, 12 * PG);
}

static long munlock_middle(void)
{
	return munlock(AREA + 4 * PG, 4 * PG);
}

static long madvise_middle(void)
{
	return madvise(AREA + 4 * PG, 4 * PG, MADV_DONTFORK);
}

static long mbind_middle(void)
{
	unsigned long nodes = 1;

	return syscall(SYS_mbind, AREA + 4 * PG, 4 * PG, MPOL_PREFERRED,
		       &nodes, 8 * sizeof(nodes), 0);
}

static bool set_brk(void)
{
	heap = sbrk(0);
	return true;
}

static bool set_brk_grown(void)
{
	return set_brk() && !brk(heap + 64 * PG);
}

static long brk_grow(void)
{
	return brk(heap + 16 * PG);
}

static long brk_grow_more(void)
{
	return brk(heap + 80 * PG);
}

static long brk_shrink(void)
{
	return brk(heap + 16 * PG);
}

/* On success the child is a program that exits with 0. */
static long exec_true(void)
{
	static char *const argv[] = { "true", NULL };
	static char *const envp[] = { NULL };

	return execve("/bin/true", argv, envp);
}

/*
 * VMAs below and above those that the call is about.  Where a store needs no
 * node, it does when it spans two: with so many more on either side, it will.
 */
static bool add_crowd(void)
{
	int below = heap ? crowd : crowd % 16, above = heap ? 0 : crowd / 16;
	char *at;
	int i;

	for (i = 0; i < below + above; i++) {
		if (heap) {
			if (mprotect(heap + (2 * i + 1) * PG, PG, PROT_READ))
				return false;
			continue;
		}
		at = i < below ? AREA - (2 * i + 2) * PG :
				 AREA + (AREA_PAGES + 2 * (i - below)) * PG;
		if (mmap(at, PG, RW, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED_NOREPLACE, -1, 0) != at)
			return false;
	}
	return true;
}

FIXTURE(fail_nth) {
	char gfp_wait[8];
	char verbose[8];
	char segfaults[8];
};

static const char *missing(void)
{
	if (geteuid() || access(FAILSLAB "ignore-gfp-wait", W_OK) ||
	    access("/proc/thread-self/fail-nth", W_OK))
		return "needs root, CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS";
	return NULL;
}

FIXTURE_SETUP(fail_nth)
{
	if (missing())
		return;
	ASSERT_LT(0, read_file(FAILSLAB "ignore-gfp-wait", self->gfp_wait,
			       sizeof(self->gfp_wait)));
	ASSERT_LT(0, read_file(FAILSLAB "verbose", self->verbose,
			       sizeof(self->verbose)));
	ASSERT_EQ(0, write_file(FAILSLAB "verbose", "0"));
	/* A new program whose stack cannot grow is no news. */
	if (read_file(SEGFAULTS, self->segfaults, sizeof(self->segfaults)) > 0)
		write_file(SEGFAULTS, "0");
}

FIXTURE_TEARDOWN(fail_nth)
{
	if (missing())
		return;
	write_file(FAILSLAB "ignore-gfp-wait", self->gfp_wait);
	write_file(FAILSLAB "verbose", self->verbose);
	if (self->segfaults[0])
		write_file(SEGFAULTS, self->segfaults);
}

/* What a failed call must leave alone. */
struct seen {
	char maps[65536];
	long long locked;
	long long size;
};

static void look(struct seen *seen)
{
	if (read_file("/proc/self/maps", seen->maps, sizeof(seen->maps)) < 0)
		_exit(BROKEN);
	seen->locked = field("/proc/self/status", "VmLck:");
	seen->size = field("/proc/self/status", "VmSize:");
}

/* In a child: one attempt with the nth allocation failing. */
static void attempt(bool (*setup)(void), long (*call)(void), int nth)
{
	static struct seen before, after;
	char text[16];
	int fd = open("/proc/thread-self/fail-nth", O_RDWR), left;
	long ret;

	/* What printf() and the stack may still need. */
	look(&before);
	if (fd < 0 || !setup() || !add_crowd())
		_exit(BROKEN);
	look(&before);

	snprintf(text, sizeof(text), "%d", nth);
	if (write(fd, text, strlen(text)) < 0)
		_exit(BROKEN);
	ret = call();
	memset(text, 0, sizeof(text));
	if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
		_exit(BROKEN);
	left = atoi(text);
	if (left && pwrite(fd, "0", 1, 0) < 0)
		_exit(BROKEN);

	if (!ret)
		_exit(left ? DONE : INJECTED);
	look(&after);
	if (before.locked != after.locked || before.size != after.size ||
	    strcmp(before.maps, after.maps)) {
		printf("# nth %d: VmLck %lld, now %lld; VmSize %lld, now %lld; maps %s\n",
		       nth, before.locked, after.locked, before.size,
		       after.size, strcmp(before.maps, after.maps) ?
		       shape() : "alike");
		fflush(stdout);
		_exit(CHANGED);
	}
	_exit(left ? BROKEN : REFUSED);
}

static int in_child(bool (*setup)(void), long (*call)(void), int nth)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		attempt(setup, call, nth);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return BROKEN;
	/* Beyond its point of no return execve() can only kill. */
	if (call == exec_true && WIFSIGNALED(status))
		return REFUSED;
	if (call == exec_true && WIFEXITED(status) && !WEXITSTATUS(status))
		return DONE;
	return WIFEXITED(status) ? WEXITSTATUS(status) : BROKEN;
}

static void walk(struct __test_metadata *_metadata,
		 bool (*setup)(void), long (*call)(void), bool may_refuse)
{
	int max = call == exec_true ? MAX_EXEC_NTH : MAX_NTH;
	int nth, got, refused = 0, injected = 0, changed = 0, leaked = 0;
	long long before, after;

	/* A call that needs no memory is made to need some. */
	for (crowd = 0; may_refuse && crowd < MAX_CROWD; crowd++) {
		got = in_child(setup, call, 1);
		ASSERT_NE(BROKEN, got) TH_LOG("%d VMAs more", crowd);
		if (got != DONE || call == exec_true)
			break;
	}

	/* What the first process leaves behind is not the call's. */
	in_child(setup, call, MAX_NTH * 10);
	before = committed_as();
	ASSERT_LT(0, before);
	for (nth = 1; nth <= max; nth++) {
		got = in_child(setup, call, nth);
		ASSERT_NE(BROKEN, got) TH_LOG("nth %d", nth);
		if (got == DONE && call != exec_true)
			break;
		refused += got == REFUSED;
		injected += got == INJECTED;
		changed += got == CHANGED;
		after = committed_as();
		if (after != before) {
			TH_LOG("nth %d: Committed_AS %lld kB, then %lld", nth,
			       before, after);
			/*
			 * Somebody else's, unless it comes again. A negative
			 * sum is shown as 0, and stays so.
			 */
			before = after;
			in_child(setup, call, nth);
			after = committed_as();
			leaked += !before || after != before;
			before = after;
		}
	}
	TH_LOG("%d calls refused, %d went on, %d changed something, with %d VMAs more",
	       refused, injected, changed, crowd);
	EXPECT_EQ(0, changed);
	EXPECT_EQ(0, leaked);
	if (may_refuse)
		EXPECT_LT(0, refused + injected + changed);
	if (!may_refuse)
		EXPECT_EQ(0, refused);
	/* A program does not say whether a failure was still to come. */
	if (call != exec_true)
		EXPECT_GE(max, nth);
}

/*
 * Two tests a call. The second has only allocations fail that must not wait:
 * those of a second store whose reserve is gone would be among them. None may
 * make a call fail.
 */
#define CALL(name, set, call)						\
static void name##_walk(struct __test_metadata *_metadata,		\
			bool may_refuse)				\
{									\
	if (missing())							\
		SKIP(return, "%s", missing());				\
	ASSERT_EQ(0, write_file(FAILSLAB "ignore-gfp-wait",		\
				may_refuse ? "N" : "Y"));		\
	walk(_metadata, set, call, may_refuse);				\
}									\
									\
TEST_F_TIMEOUT(fail_nth, name, 600)					\
{									\
	name##_walk(_metadata, true);					\
}									\
									\
TEST_F_TIMEOUT(fail_nth, name##_nonblocking, 600)			\
{									\
	name##_walk(_metadata, false);					\
}

CALL(mmap_new, set_mmap_new, mmap_new)
CALL(mmap_hole, set_case1, mmap_hole)
CALL(mmap_file, set_file, mmap_file)
CALL(munmap_middle, one_vma, munmap_middle)
CALL(munmap_low, one_vma, munmap_low)
CALL(munmap_file, set_file_mapped, munmap_file_middle)
CALL(munmap_many, set_many, munmap_many)
CALL(mprotect_middle, one_vma, protect_middle)
CALL(mprotect_charge, set_read_only, protect_charge)
CALL(mprotect_case4, two_vmas, protect_case4)
CALL(mprotect_case5, two_vmas, protect_case5)
CALL(mprotect_case6, set_case6, protect_mid)
CALL(mprotect_case7, set_case7, protect_mid)
CALL(mprotect_case8, set_case8, protect_mid)
CALL(mmap_anon_dup, set_anon_dup, mmap_hole)
CALL(mremap_anon_dup, set_anon_dup, mremap_grow_hole)
CALL(mremap_shrink, one_vma, mremap_shrink)
CALL(mremap_shrink_inside, one_vma, mremap_shrink_inside)
CALL(mremap_grow, one_vma, mremap_grow)
CALL(mremap_grow_file, set_file_mapped, mremap_grow_file)
CALL(mremap_move, one_vma, mremap_move)
CALL(mremap_move_middle, one_vma, mremap_move_middle)
CALL(mremap_dontunmap, one_vma, mremap_dontunmap)
CALL(mlock, one_vma, mlock_middle)
CALL(munlock, set_locked, munlock_middle)
CALL(madvise, one_vma, madvise_middle)
CALL(mbind, one_vma, mbind_middle)
CALL(brk_first, set_brk, brk_grow)
CALL(brk_grow, set_brk_grown, brk_grow_more)
CALL(brk_shrink, set_brk_grown, brk_shrink)
CALL(execve, set_mmap_new, exec_true)

TEST_HARNESS_MAIN
