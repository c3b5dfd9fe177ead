/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A process whose allocations are made to fail (its make-it-fail is 1 and the
 * fault's task-filter is on). It may be told that there is no memory; any
 * other error, wrong data and death are findings. The builds themselves are
 * left alone, so that each failure of theirs is unexpected.
 */
#ifndef _SWAPLOAD_VICTIM_H
#define _SWAPLOAD_VICTIM_H

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "swapload.h"

struct victim_counts {
	unsigned long long calls, expected, unexpected;
};

static void victim_ret(struct victim_counts *c, const char *call, bool bad)
{
	int err = errno;

	c->calls++;
	if (!bad)
		return;
	/* ENOSPC and EDQUOT: shmem's words for a failed charge or block. */
	if (err == ENOMEM || err == EAGAIN || err == ENOBUFS ||
	    err == ENOSPC || err == EINTR || err == ENFILE) {
		c->expected++;
		return;
	}
	c->unexpected++;
	swapload_event("disturb", "victim: %s: %s", call, strerror(err));
}

/*
 * The heap grows and shrinks to what it was; malloc() never sees it. What the
 * kernel charged for a growth that failed stays in Committed_AS if it forgets.
 */
static void victim_brk(struct victim_counts *c)
{
	unsigned long old = syscall(SYS_brk, 0), want = old + (1 << 20);

	errno = ENOMEM;	/* the call itself tells of no other */
	victim_ret(c, "brk", (unsigned long)syscall(SYS_brk, want) != want);
	errno = ENOMEM;
	victim_ret(c, "brk", (unsigned long)syscall(SYS_brk, old) != old);
}

static void victim_life(const char *path, struct victim_counts *c)
{
	static unsigned char got[16384];
	unsigned char want = 'a' + swapload_random() % 26;
	size_t size = 64 * 4096;
	unsigned int i, n;
	char *map, *moved;
	ssize_t len;
	int fd, pid;

	for (n = 0; n < 40; n++) {
		map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		victim_ret(c, "mmap", map == MAP_FAILED);
		if (map == MAP_FAILED)
			continue;
		/* Cuts and joins VMAs. */
		victim_ret(c, "mprotect", mprotect(map + size / 4, size / 4, PROT_READ));
		victim_ret(c, "mprotect", mprotect(map, size, PROT_READ | PROT_WRITE));
		victim_ret(c, "madvise", madvise(map, size, MADV_HUGEPAGE));
		/* Read in by a call, so that it says so when there is no memory. */
		victim_ret(c, "populate", madvise(map, size / 2, 23 /* MADV_POPULATE_WRITE */) &&
			   errno != EINVAL && errno != EFAULT);
		moved = mremap(map, size, size * 2, MREMAP_MAYMOVE);
		/* VMAs that could not be joined again may not move together. */
		if (moved == MAP_FAILED && errno == EFAULT)
			errno = ENOMEM;
		victim_ret(c, "mremap", moved == MAP_FAILED);
		if (moved != MAP_FAILED)
			map = moved;
		victim_ret(c, "munmap", munmap(map + size / 2, 4096));
		victim_ret(c, "munmap", munmap(map, moved == MAP_FAILED ? size : size * 2));
		victim_brk(c);

		pid = fork();
		victim_ret(c, "fork", pid < 0);
		if (!pid)
			_exit(0);
		if (pid > 0)
			waitpid(pid, NULL, 0);

		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		victim_ret(c, "open", fd < 0);
		if (fd < 0)
			continue;
		memset(got, want, sizeof(got));
		len = pwrite(fd, got, sizeof(got), 0);
		victim_ret(c, "pwrite", len < 0);
		memset(got, 0, sizeof(got));
		if (len > 0) {
			len = pread(fd, got, len, 0);
			victim_ret(c, "pread", len < 0);
		}
		for (i = 0; len > 0 && i < (unsigned int)len; i++) {
			if (got[i] == want)
				continue;
			c->unexpected++;
			swapload_event("corrupt", "victim: byte %u is %02x instead of %02x",
				       i, got[i], want);
			break;
		}
		victim_ret(c, "ftruncate", ftruncate(fd, 0));
		close(fd);
	}
}

/* Returns 0, or -1 when the victim died. */
static int victim_run(const char *path, struct victim_counts *counts)
{
	struct victim_counts *c;
	int wstatus;
	pid_t pid;

	c = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		 -1, 0);
	if (c == MAP_FAILED)
		return -1;
	memset(c, 0, sizeof(*c));
	pid = fork();
	if (!pid) {
		if (swapload_write("/proc/self/make-it-fail", "1"))
			_exit(1);
		victim_life(path, c);
		_exit(0);
	}
	if (pid < 0) {
		munmap(c, 4096);
		return -1;
	}
	while (waitpid(pid, &wstatus, 0) < 0 && errno == EINTR)
		if (swapload_stop)
			kill(pid, SIGKILL);
	*counts = *c;
	munmap(c, 4096);
	if (swapload_stop || !wstatus)
		return 0;
	/*
	 * The kernel has no better word when it cannot fault in what it needs
	 * itself of a task: its stack, its rseq area, a signal's frame.
	 */
	if (WIFSIGNALED(wstatus) &&
	    (WTERMSIG(wstatus) == SIGSEGV || WTERMSIG(wstatus) == SIGBUS)) {
		counts->expected++;
		return 0;
	}
	swapload_event("disturb", "victim: ended with status %x", wstatus);
	return -1;
}

#endif
