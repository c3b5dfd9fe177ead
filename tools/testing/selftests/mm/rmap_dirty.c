// SPDX-License-Identifier: GPL-2.0
/*
 * A page-table entry is gone, another CPU still has it in its TLB, and writes
 * through it. What it writes must not be lost: the page must not be taken for
 * unmapped, and so be cleaned, before that CPU has forgotten the entry.
 *
 * The windows are a few instructions long; delay points make them wide.
 */
#include <pthread.h>

#include "rmap_fs.h"

#define EXT4_DIR	"/tmp/rmap-ext4"
#define TMPFS_DIR	"/tmp/rmap-tmpfs"
#define NEEDS_CPUS	"needs two CPUs"
#define WINDOW_US	300000
#define ROUNDS		10

/*
 * One CPU stays in user space and in system calls of one process: its TLB is
 * flushed by nobody but by those who mean it.
 */
#define WRITER_CPU	0
#define ZAPPER_CPU	1

struct zap {
	char *at;
	size_t len;
	int advice;
	int error;
	int go;
	int done;
};

static void *zap_once(void *arg)
{
	struct zap *zap = arg;

	if (stay_on_cpu(ZAPPER_CPU))
		zap->error = errno;
	while (!LOAD(zap->go))
		sched_yield();
	if (madvise(zap->at, zap->len, zap->advice))
		zap->error = errno;
	STORE(zap->done, 1);
	return NULL;
}

/**
 * struct window - one zap, and what was done while it waited at the delay point
 * @delay: the file of the delay points
 * @point: the name of this one
 * @entered: how often somebody had come there before
 * @clean_fd: the file that is written back in the window; -1 for none
 * @clean_cpu: where that is done; on the writer's, the writer does it
 * @ready: who does it has begun to look for the window
 * @cleaned: it has been done
 * @error: or not
 * @hit: the zapper came to the delay point
 * @stale: the last write in the window went through without a page fault
 * @pfn: of the page, when it is to be looked how often it is mapped
 * @mapcount: how often, before that write
 */
struct window {
	int delay;
	const char *point;
	long long entered;
	int clean_fd;
	int clean_cpu;
	int ready;
	int cleaned;
	int error;
	int hit;
	int stale;
	long long pfn;
	long long mapcount;
};

static int waiting(struct window *w)
{
	return delay_entered(w->delay, w->point) > w->entered;
}

/* Written back, and that is over: what is written later is not in it. */
static void clean(struct window *w)
{
	if (sync_file_range(w->clean_fd, 0, PAGE, SYNC_FILE_RANGE_WRITE |
			    SYNC_FILE_RANGE_WAIT_AFTER))
		w->error = errno;
}

static void *clean_in_window(void *arg)
{
	struct window *w = arg;

	if (stay_on_cpu(w->clean_cpu))
		w->error = errno;
	do {
		usleep(1000);
		STORE(w->ready, 1);
	} while (!waiting(w));
	clean(w);
	STORE(w->cleaned, 1);
	return NULL;
}

/* What is written before the window, and in it. */
#define BEFORE	0x1111111100000000ULL
#define INSIDE	0x2222222200000000ULL

/*
 * Write, have the page zapped, and in the window have it cleaned, when there is a
 * file, or look how often it is mapped; and write again.
 */
static void open_window(struct __test_metadata *_metadata, struct window *w,
			struct zap *zap, unsigned int round)
{
	int other = w->clean_fd >= 0 && w->clean_cpu != WRITER_CPU;
	uint64_t *word = (uint64_t *)zap->at;
	pthread_t zapper, cleaner;
	long faults;

	w->entered = delay_entered(w->delay, w->point);
	ASSERT_LE(0, w->entered);
	STORE(*word, BEFORE + round);
	/* Reclaim takes pages from the LRU, not from this CPU's new ones. */
	if (w->clean_fd >= 0)
		posix_fadvise(w->clean_fd, HUGE, PAGE, POSIX_FADV_DONTNEED);
	if (other) {
		ASSERT_EQ(0, pthread_create(&cleaner, NULL, clean_in_window, w));
		while (!LOAD(w->ready))
			sched_yield();
	}
	ASSERT_EQ(0, pthread_create(&zapper, NULL, zap_once, zap));
	STORE(zap->go, 1);
	/* Writing keeps the entry in this TLB. */
	while (other ? !LOAD(w->cleaned) : !LOAD(zap->done) && !waiting(w))
		STORE(*word, BEFORE + round);
	if (w->clean_fd >= 0 && !other)
		clean(w);
	if (w->pfn)
		w->mapcount = mapcount_of(w->pfn);
	faults = thread_faults();
	STORE(*word, INSIDE + round);
	w->stale = thread_faults() == faults && !LOAD(zap->done);
	w->hit = waiting(w);
	ASSERT_EQ(0, pthread_join(zapper, NULL));
	ASSERT_EQ(0, zap->error);
	if (other)
		ASSERT_EQ(0, pthread_join(cleaner, NULL));
	ASSERT_EQ(0, w->error);
}

/*
 * The loop device's work is done where the page is cleaned: not behind the zapper,
 * who may not be preempted, nor on the writer's CPU, whose TLB it would flush.
 */
#define UNBOUND_MASK	"/sys/devices/virtual/workqueue/cpumask"

static char unbound_mask[256];

static void work_on_cpu(int cpu)
{
	char mask[32];

	if (read_file(UNBOUND_MASK, unbound_mask, sizeof(unbound_mask)) <= 0)
		unbound_mask[0] = '\0';
	snprintf(mask, sizeof(mask), "%x", 1U << cpu);
	write_file(UNBOUND_MASK, mask);
}

static void work_anywhere(void)
{
	if (unbound_mask[0])
		write_file(UNBOUND_MASK, unbound_mask);
}

/* What the disk has: the page leaves the page cache first. */
static int read_from_disk(int fd, uint64_t *word)
{
	char page[PAGE];
	struct iovec iov = { page, PAGE };
	int tries;

	if (fsync(fd))
		return -errno;
	for (tries = 0; tries < 1000; tries++) {
		posix_fadvise(fd, 0, PAGE, POSIX_FADV_DONTNEED);
		if (preadv2(fd, &iov, 1, 0, RWF_NOWAIT) < 0 && errno == EAGAIN)
			break;
		usleep(1000);
	}
	if (tries == 1000)
		return -EBUSY;
	return pread(fd, word, sizeof(*word), 0) == sizeof(*word) ? 0 : -EIO;
}

FIXTURE(rmap_dirty) {
	int delay;
	int fd;
};

FIXTURE_SETUP(rmap_dirty)
{
	self->delay = delay_open();
	self->fd = -1;
	stay_on_cpu(WRITER_CPU);
}

FIXTURE_TEARDOWN(rmap_dirty)
{
	if (self->delay >= 0)
		close(self->delay);
	if (self->fd >= 0)
		close(self->fd);
	work_anywhere();
	umount2(EXT4_DIR, MNT_DETACH);
	umount2(TMPFS_DIR, MNT_DETACH);
	rmdir(EXT4_DIR);
	rmdir(TMPFS_DIR);
}

/* A file of one page that is on the disk already. */
static const char *new_ext4_file(int *fd)
{
	static char why[64];
	char page[PAGE] = "";
	int ret = mount_ext4(EXT4_DIR, 8 << 20);

	if (ret == -ENOPKG)
		return "needs mke2fs";
	if (ret) {
		snprintf(why, sizeof(why), "no ext4 on a loop device: %s",
			 strerror(-ret));
		return why;
	}
	*fd = open(EXT4_DIR "/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*fd < 0 || write(*fd, page, PAGE) != PAGE || fsync(*fd))
		return "no file on ext4";
	return NULL;
}

static void lost_in_window(struct __test_metadata *_metadata, int delay, int fd,
			   const char *point, int advice, int clean_cpu)
{
	int lost = 0, hit = 0, stale = 0;
	unsigned int round;
	/* In a page table of its own: the lock of others' must be free. */
	char *at = huge_hole(HUGE);

	work_on_cpu(clean_cpu);
	ASSERT_NE(NULL, at);
	ASSERT_EQ(0, delay_set(delay, point, WINDOW_US));
	for (round = 1; round <= ROUNDS; round++) {
		struct zap zap = { .len = PAGE, .advice = advice };
		struct window w = {
			.delay = delay, .point = point, .clean_fd = fd,
			.clean_cpu = clean_cpu,
		};
		uint64_t found;

		zap.at = mmap(at, PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, fd, 0);
		ASSERT_NE(MAP_FAILED, zap.at);
		open_window(_metadata, &w, &zap, round);
		ASSERT_EQ(at, mmap(at, PAGE, PROT_NONE, MAP_PRIVATE |
				   MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		ASSERT_EQ(0, read_from_disk(fd, &found));
		hit += w.hit;
		stale += w.stale;
		lost += found != INSIDE + round;
	}
	TH_LOG("%d rounds: %d with a window, %d wrote in it without a fault, %d lost",
	       ROUNDS, hit, stale, lost);
	/* Without a window, nothing was tested. */
	EXPECT_EQ(ROUNDS, hit);
	EXPECT_EQ(0, lost);
}

/*
 * MADV_DONTNEED on one CPU; on the other write-back and a write, by one task: the
 * zapper cannot be preempted.
 */
TEST_F_TIMEOUT(rmap_dirty, pte_window, 300)
{
	const char *why;

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	if (nr_cpus() < 2)
		SKIP(return, NEEDS_CPUS);
	why = new_ext4_file(&self->fd);
	if (why)
		SKIP(return, "%s", why);
	lost_in_window(_metadata, self->delay, self->fd, "zap_pte",
		       MADV_DONTNEED, WRITER_CPU);
}

/*
 * The same with reclaim in the place of MADV_DONTNEED. Write-back is a task of its
 * own on the zapper's CPU, which can be preempted: were it on the writer's, that
 * would change to a kernel thread and back, and flush what reclaim has announced.
 */
TEST_F_TIMEOUT(rmap_dirty, reclaim_window, 300)
{
	const char *why;

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	if (nr_cpus() < 2)
		SKIP(return, NEEDS_CPUS);
#ifndef __x86_64__
	/* CONFIG_ARCH_WANT_BATCHED_UNMAP_TLB_FLUSH */
	SKIP(return, "needs reclaim that flushes the TLB in batches");
#endif
	why = new_ext4_file(&self->fd);
	if (why)
		SKIP(return, "%s", why);
	lost_in_window(_metadata, self->delay, self->fd, "reclaim",
		       MADV_PAGEOUT, ZAPPER_CPU);
}

static char *map_huge_file(struct __test_metadata *_metadata, int *fd)
{
	char *at = huge_hole(HUGE);

	ASSERT_NE(NULL, at);
	ASSERT_EQ(0, mount_huge_tmpfs(TMPFS_DIR));
	*fd = open(TMPFS_DIR "/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, *fd);
	ASSERT_EQ(0, ftruncate(*fd, HUGE));
	at = mmap(at, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, *fd,
		  0);
	ASSERT_NE(MAP_FAILED, at);
	return at;
}

static int lacks_huge_pages(void)
{
	return access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK);
}

static long long pmd_mapped_kb(void)
{
	return field("/proc/self/smaps_rollup", "ShmemPmdMapped");
}

/*
 * A read fault maps a huge page writable and clean, so the processor's dirty bit
 * is all that tells of a write.
 */
static void pmd_dirty(struct __test_metadata *_metadata, int *fd, int read_first)
{
	char *at = map_huge_file(_metadata, fd);
	int page, lost = 0;

	if (read_first)
		LOAD(*at);
	memset(at, 'A', HUGE);
	ASSERT_EQ(HUGE / 1024, pmd_mapped_kb());
	ASSERT_EQ(0, munmap(at, HUGE));
	at = mmap(at, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, *fd,
		  0);
	ASSERT_NE(MAP_FAILED, at);
	for (page = 0; page < HUGE / PAGE; page++)
		ASSERT_EQ('A', at[page * PAGE]);
	ASSERT_EQ(0, madvise(at, HUGE, MADV_PAGEOUT));
	for (page = 0; page < HUGE / PAGE; page++)
		lost += at[page * PAGE] != 'A';
	TH_LOG("%d of %lu pages lost", lost, HUGE / PAGE);
	EXPECT_EQ(0, lost);
}

TEST_F_TIMEOUT(rmap_dirty, pmd_dirty, 300)
{
	if (geteuid() || lacks_huge_pages())
		SKIP(return, "needs root and transparent huge pages");
	pmd_dirty(_metadata, &self->fd, 1);
}

TEST_F_TIMEOUT(rmap_dirty, pmd_dirty_by_fault, 300)
{
	if (geteuid() || lacks_huge_pages())
		SKIP(return, "needs root and transparent huge pages");
	pmd_dirty(_metadata, &self->fd, 0);
}

/*
 * A huge page that is mapped by ptes is mapped by a PMD again: what they know of
 * writes. They are mapped by read faults while the VMA is in two, so that there
 * is no room for a PMD, and written without a further fault.
 */
TEST_F_TIMEOUT(rmap_dirty, collapse_dirty, 300)
{
	char *at, *page, *end;
	int lost = 0;
	long faults;

	if (geteuid() || lacks_huge_pages())
		SKIP(return, "needs root and transparent huge pages");
	at = map_huge_file(_metadata, &self->fd);
	end = at + HUGE;
	LOAD(*at);
	ASSERT_EQ(HUGE / 1024, pmd_mapped_kb());
	ASSERT_EQ(0, mprotect(at, PAGE, PROT_READ));
	for (page = at; page < end; page += PAGE)
		LOAD(*page);
	faults = thread_faults();
	memset(at + PAGE, 'A', HUGE - PAGE);
	/* By a write fault the page would become dirty. x86 needs none. */
#ifndef __x86_64__
	if (faults != thread_faults())
		SKIP(return, "needs a processor that sets dirty bits");
#endif
	ASSERT_EQ(faults, thread_faults());
	ASSERT_EQ(0, mprotect(at, PAGE, PROT_READ | PROT_WRITE));
	if (madvise(at, HUGE, MADV_COLLAPSE)) {
		ASSERT_EQ(EINVAL, errno);
		SKIP(return, "needs MADV_COLLAPSE");
	}
	ASSERT_EQ(HUGE / 1024, pmd_mapped_kb());
	ASSERT_EQ(0, madvise(at, HUGE, MADV_PAGEOUT));
	for (page = at + PAGE; page < end; page += PAGE)
		lost += *page != 'A';
	TH_LOG("%d of %lu pages lost", lost, HUGE / PAGE - 1);
	EXPECT_EQ(0, lost);
}

/*
 * tmpfs has no write-back that could clean the page in the window. So the page is
 * asked: nothing maps it, says the mapcount, and then a write goes through.
 */
TEST_F_TIMEOUT(rmap_dirty, pmd_window, 300)
{
	int early = 0, hit = 0, stale = 0;
	unsigned int round;
	char *at;

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	if (nr_cpus() < 2)
		SKIP(return, NEEDS_CPUS);
	if (lacks_huge_pages())
		SKIP(return, "needs transparent huge pages");
	at = map_huge_file(_metadata, &self->fd);
	ASSERT_EQ(0, delay_set(self->delay, "zap_pmd", WINDOW_US));
	/* On a busy host the window may be over before this CPU looks into it. */
	for (round = 1; stale < ROUNDS && round <= 10 * ROUNDS; round++) {
		struct zap zap = {
			.at = at, .len = HUGE, .advice = MADV_DONTNEED,
		};
		struct window w = {
			.delay = self->delay, .point = "zap_pmd", .clean_fd = -1,
		};

		STORE(*at, 1);
		ASSERT_EQ(HUGE / 1024, pmd_mapped_kb());
		w.pfn = pfn_of(at);
		ASSERT_LT(0, w.pfn);
		open_window(_metadata, &w, &zap, round);
		hit += w.hit;
		stale += w.stale;
		early += w.stale && w.mapcount == 0;
	}
	TH_LOG("%d rounds: %d with a window, %d wrote without a fault, %d to a page not mapped",
	       round - 1, hit, stale, early);
	EXPECT_EQ(round - 1, hit);
	EXPECT_LT(0, stale);
	EXPECT_EQ(0, early);
}

TEST_HARNESS_MAIN
