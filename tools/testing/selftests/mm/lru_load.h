/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the LRU lists and of reclaim stand on: memory cgroups of
 * either version, swap and a file system on loop devices, and processes that
 * each do one thing over and over.
 */
#ifndef _SELFTESTS_MM_LRU_LOAD_H
#define _SELFTESTS_MM_LRU_LOAD_H

#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <time.h>

#include "loop_device.h"
#include "mm_verify.h"

#define LRU_GEN		"/sys/kernel/mm/lru_gen/enabled"
#define THP		"/sys/kernel/mm/transparent_hugepage/enabled"
#define THP_SIZE	(2UL << 20)

/* Where the memory controller is mounted; NULL when it is not. */
static inline const char *group_root(void)
{
	if (!access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) ||
	    !access("/sys/fs/cgroup/memory/memory.usage_in_bytes", F_OK))
		return "/sys/fs/cgroup/memory";
	if (!access("/sys/fs/cgroup/cgroup.controllers", F_OK)) {
		write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
		return field("/proc/cgroups", "memory") < 0 &&
		       access("/sys/fs/cgroup/memory.stat", F_OK) ?
		       NULL : "/sys/fs/cgroup";
	}
	return NULL;
}

static inline bool group_is_v1(void)
{
	const char *root = group_root();

	return root && strstr(root, "/memory");
}

static inline void group_path(char *path, const char *group, const char *file)
{
	snprintf(path, PATH_MAX, "%s/%s/%s", group_root(), group, file);
}

/* A new group; its limit in MiB, 0 for none. */
static inline int group_make(const char *group, long mib)
{
	char path[PATH_MAX];

	if (!group_root())
		return -ENOENT;
	group_path(path, group, "");
	if (mkdir(path, 0755) && errno != EEXIST)
		return -errno;
	if (!mib)
		return 0;
	group_path(path, group, group_is_v1() ? "memory.limit_in_bytes" : "memory.max");
	return put(path, "%ld", mib << 20);
}

/* The calling process goes into the group; "" is the root. */
static inline int group_enter(const char *group)
{
	char path[PATH_MAX];

	if (!group_root())
		return -ENOENT;
	group_path(path, group, "cgroup.procs");
	return put(path, "%d", getpid());
}

/* A group is busy until its last task is reaped. */
static inline int group_remove(const char *group)
{
	char path[PATH_MAX];
	int tries;

	if (!group_root())
		return -ENOENT;
	group_path(path, group, "");
	for (tries = 0; rmdir(path) && errno == EBUSY && tries < 200; tries++)
		usleep(50000);
	return access(path, F_OK) ? 0 : -EBUSY;
}

static inline int group_reclaim(const char *group)
{
	char path[PATH_MAX];

	if (!group_root())
		return -ENOENT;
	if (group_is_v1()) {
		group_path(path, group, "memory.force_empty");
		return write_file(path, "0");
	}
	group_path(path, group, "memory.reclaim");
	return write_file(path, "1G");
}

static inline long long group_oom_kills(const char *group)
{
	char path[PATH_MAX];

	group_path(path, group, group_is_v1() ? "memory.oom_control" :
						"memory.events");
	return field(path, "oom_kill");
}

static inline bool lru_gen_present(void)
{
	return !access(LRU_GEN, W_OK);
}

/**
 * struct backed - a loop device on a file in a file system in memory
 * @dir: mount point of that file system
 * @path: the loop device
 * @loop: its descriptor, -1 when there is none
 */
struct backed {
	char dir[64];
	char path[64];
	int loop;
};

/* @fs: tmpfs, or ramfs, whose pages cannot be swapped themselves. */
static inline int backed_open(struct backed *b, const char *fs, const char *name,
			      long mib)
{
	char file[96];
	int fd;

	b->loop = -1;
	snprintf(b->dir, sizeof(b->dir), "/tmp/%s.%d", name, getpid());
	if (mkdir(b->dir, 0700) || mount(fs, b->dir, fs, 0, NULL))
		return -errno;
	snprintf(file, sizeof(file), "%s/image", b->dir);
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, mib << 20))
		return -errno;
	b->loop = loop_device(fd, b->path, sizeof(b->path));
	close(fd);
	return b->loop < 0 ? b->loop : 0;
}

static inline void backed_close(struct backed *b)
{
	int tries;

	if (!b->dir[0])
		return;
	if (b->loop >= 0) {
		ioctl(b->loop, LOOP_CLR_FD);
		close(b->loop);
	}
	for (tries = 0; umount(b->dir) && errno == EBUSY && tries < 100; tries++)
		usleep(50000);
	rmdir(b->dir);
	b->dir[0] = '\0';
}

/* Swap that needs no disk. */
static inline int swap_open(struct backed *b, long mib)
{
	int ret = backed_open(b, "ramfs", "swap", mib);

	if (!ret)
		ret = swap_sign(b->loop, mib << 20);
	if (!ret && swapon(b->path, 0))
		ret = -errno;
	return ret;
}

static inline void swap_close(struct backed *b)
{
	if (b->loop >= 0)
		swapoff(b->path);
	backed_close(b);
}

/* Run a program; its output is dropped. Returns its exit status. */
static inline int run_quietly(const char * const argv[])
{
	int status, null;
	pid_t pid = fork();

	if (!pid) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Anonymous memory of whole huge pages, as far as there are any. */
static inline char *map_huge(size_t size)
{
	char *map = mmap(NULL, size + THP_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	map = (char *)(((uintptr_t)map + THP_SIZE - 1) & -THP_SIZE);
	madvise(map, size, MADV_HUGEPAGE);
	return map;
}

/* Processes that work until they are ended, in one process group. */
#define WORKERS_MAX	16

/**
 * struct workers - processes of a load
 * @pids: their ids
 * @nr: how many
 */
struct workers {
	pid_t pids[WORKERS_MAX];
	int nr;
};

static inline int worker_start(struct workers *w, void (*work)(void))
{
	pid_t pid;

	if (w->nr == WORKERS_MAX)
		return -ENOSPC;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			work();
	}
	if (pid < 0)
		return -errno;
	w->pids[w->nr++] = pid;
	return 0;
}

/* Returns how many had ended by themselves. */
static inline int workers_end(struct workers *w)
{
	int i, status, early = 0;

	for (i = 0; i < w->nr; i++)
		if (waitpid(w->pids[i], &status, WNOHANG) == w->pids[i]) {
			w->pids[i] = 0;
			early++;
		}
	for (i = 0; i < w->nr; i++)
		if (w->pids[i])
			kill(w->pids[i], SIGKILL);
	for (i = 0; i < w->nr; i++)
		if (w->pids[i])
			waitpid(w->pids[i], &status, 0);
	w->nr = 0;
	return early;
}

#endif /* _SELFTESTS_MM_LRU_LOAD_H */
