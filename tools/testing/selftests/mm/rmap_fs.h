/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the rmap tests need of file systems: ext4 on a loop device, tmpfs with
 * huge pages, a swap area; and some looks at pages.
 */
#ifndef _SELFTESTS_MM_RMAP_FS_H
#define _SELFTESTS_MM_RMAP_FS_H

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "../kselftest_harness.h"
#include "loop_device.h"
#include "mm_verify.h"

#define PAGE		4096UL
#define HUGE		(2UL << 20)

/* Done here and now, whatever the compiler thinks of it. */
#define LOAD(x)		__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define STORE(x, val)	__atomic_store_n(&(x), val, __ATOMIC_RELAXED)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

static inline int stay_on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

static inline int nr_cpus(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

/* Run a program without its output. Returns its status, or -1. */
static inline int run_quiet(char *const argv[])
{
	int status, null;
	pid_t pid = fork();

	if (!pid) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/*
 * Mount ext4 on a new image. mke2fs may be busybox's, which makes ext2: the ext4
 * driver takes that too. Returns 0, or -errno; -ENOPKG without mke2fs.
 */
static inline int mount_ext4(const char *dir, long bytes)
{
	char image[] = "/tmp/rmap-image-XXXXXX", loop[32];
	char *const argv[] = { "mke2fs", "-F", "-b", "4096", image, NULL };
	int fd = mkstemp(image), dev, ret;

	if (fd < 0)
		return -errno;
	ret = ftruncate(fd, bytes) ? -errno : run_quiet(argv);
	unlink(image);
	if (ret) {
		close(fd);
		return ret == 127 ? -ENOPKG : -EIO;
	}
	dev = loop_device(fd, loop, sizeof(loop));
	close(fd);
	if (dev < 0)
		return dev;
	mkdir(dir, 0700);
	ret = mount(loop, dir, "ext4", 0, NULL) ? -errno : 0;
	close(dev);
	return ret;
}

static inline int mount_huge_tmpfs(const char *dir)
{
	mkdir(dir, 0700);
	return mount("tmpfs", dir, "tmpfs", 0, "huge=always") ? -errno : 0;
}

/* The page's frame, or -errno; 0 when it is not mapped. */
static inline long long pfn_of(const void *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = pread(fd, &entry, sizeof(entry), (uintptr_t)at / PAGE * 8);
	close(fd);
	if (got != sizeof(entry))
		return -EIO;
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* How often the frame is mapped. */
static inline long long mapcount_of(long long pfn)
{
	static int fd = -1;
	uint64_t count;

	if (fd < 0)
		fd = open("/proc/kpagecount", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &count, sizeof(count), pfn * 8) != sizeof(count))
		return -EIO;
	return count;
}

static inline long thread_faults(void)
{
	struct rusage use;

	getrusage(RUSAGE_THREAD, &use);
	return use.ru_minflt + use.ru_majflt;
}

/* Address space of len bytes, aligned to it as a huge page needs. */
static inline char *huge_hole(size_t len)
{
	char *at = mmap(NULL, len + HUGE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	return (char *)(((uintptr_t)at + HUGE - 1) & ~(HUGE - 1));
}

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

#endif /* _SELFTESTS_MM_RMAP_FS_H */
