/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Block devices in memory, and swap on one of them.
 */
#ifndef _SELFTESTS_MM_MEMCG_SWAP_H
#define _SELFTESTS_MM_MEMCG_SWAP_H

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <unistd.h>

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
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int file = memfd_create("device", MFD_CLOEXEC), nr;

	d->fd = -1;
	if (control < 0 || file < 0 || ftruncate(file, size))
		return -errno;
	nr = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	snprintf(d->path, sizeof(d->path), "/dev/loop%d", nr);
	d->fd = open(d->path, O_RDWR | O_CLOEXEC);
	if (d->fd < 0 || ioctl(d->fd, LOOP_SET_FD, file))
		return -errno;
	close(file);
	return 0;
}

static inline void device_remove(struct device *d)
{
	if (d->fd < 0)
		return;
	ioctl(d->fd, LOOP_CLR_FD, 0);
	close(d->fd);
	d->fd = -1;
}

/* With the signature that swapon() asks for; see union swap_header. */
static inline int swap_make(struct device *d, size_t size)
{
	static union {
		char page[4096];
		struct {
			char boot[1024];
			uint32_t version, last_page, nr_bad;
		};
	} header;
	int ret = device_make(d, size);

	if (ret)
		return ret;
	header.version = 1;
	header.last_page = size / sizeof(header) - 1;
	memcpy(header.page + sizeof(header) - 10, "SWAPSPACE2", 10);
	if (pwrite(d->fd, &header, sizeof(header), 0) != sizeof(header) ||
	    fsync(d->fd) || swapon(d->path, 0))
		return -errno;
	return 0;
}

/* Swap entries that were freed are kept by CPUs, and charged, until then. */
static inline void swap_remove(struct device *d)
{
	if (d->fd >= 0)
		swapoff(d->path);
	device_remove(d);
}

#endif /* _SELFTESTS_MM_MEMCG_SWAP_H */
