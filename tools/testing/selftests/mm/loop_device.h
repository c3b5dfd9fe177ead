/* SPDX-License-Identifier: GPL-2.0 */
/* Block devices on files, and what makes swap of one. */
#ifndef _SELFTESTS_MM_LOOP_DEVICE_H
#define _SELFTESTS_MM_LOOP_DEVICE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * A loop device on a file, gone with its last user. Returns its descriptor, and
 * its path, or -errno.
 */
static inline int loop_device(int file, char *path, size_t size)
{
	struct loop_config config = {
		.fd = file,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int fd, nr, tries, ret = -EBUSY;

	if (control < 0)
		return -errno;
	/* Others look for a free one too. */
	for (tries = 0; tries < 16 && ret == -EBUSY; tries++) {
		nr = ioctl(control, LOOP_CTL_GET_FREE);
		snprintf(path, size, "/dev/loop%d", nr);
		fd = nr < 0 ? nr : open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			ret = -errno;
			break;
		}
		ret = ioctl(fd, LOOP_CONFIGURE, &config) ? -errno : fd;
		if (ret < 0)
			close(fd);
	}
	close(control);
	return ret;
}

/*
 * What swapon() asks for at the start of an area of so many bytes, see union
 * swap_header. Returns 0 or -errno.
 */
static inline int swap_sign(int fd, size_t size)
{
	static union {
		char page[4096];
		struct {
			char boot[1024];
			uint32_t version, last_page, nr_bad;
		};
	} header;

	header.version = 1;
	header.last_page = size / sizeof(header) - 1;
	memcpy(header.page + sizeof(header) - 10, "SWAPSPACE2", 10);
	errno = EIO;	/* unless it says why */
	return pwrite(fd, &header, sizeof(header), 0) != sizeof(header) ||
	       fsync(fd) ? -errno : 0;
}

#endif /* _SELFTESTS_MM_LOOP_DEVICE_H */
