/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Block devices in memory, and swap on one of them.
 */
#ifndef _SELFTESTS_MM_MEMCG_SWAP_H
#define _SELFTESTS_MM_MEMCG_SWAP_H

#include <errno.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <unistd.h>

#include "loop_device.h"

/**
 * struct device - a loop device over a file in tmpfs
 * @path: its name
 * @fd: its descriptor, -1 when there is none
 */
struct device {
	char path[32];
	int fd;
};

static inline int device_make(struct device *d, size_t size)
{
	int file = memfd_create("device", MFD_CLOEXEC);

	d->fd = -1;
	if (file < 0 || ftruncate(file, size))
		return -errno;
	d->fd = loop_device(file, d->path, sizeof(d->path));
	close(file);
	return d->fd < 0 ? d->fd : 0;
}

static inline void device_remove(struct device *d)
{
	if (d->fd < 0)
		return;
	ioctl(d->fd, LOOP_CLR_FD, 0);
	close(d->fd);
	d->fd = -1;
}

static inline int swap_make(struct device *d, size_t size)
{
	int ret = device_make(d, size);

	if (!ret)
		ret = swap_sign(d->fd, size);
	if (!ret && swapon(d->path, 0))
		ret = -errno;
	return ret;
}

/* Swap entries that were freed are kept by CPUs, and charged, until then. */
static inline void swap_remove(struct device *d)
{
	if (d->fd >= 0)
		swapoff(d->path);
	device_remove(d);
}

#endif /* _SELFTESTS_MM_MEMCG_SWAP_H */
