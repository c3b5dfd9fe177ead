/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The verifiers' debugfs files, as a test sees them. The format of the report
 * is in Documentation/mm/verify.rst.
 */
#ifndef _SELFTESTS_MM_VERIFY_H
#define _SELFTESTS_MM_VERIFY_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERIFY_DIR "/sys/kernel/debug/mm_verify/"

/* Write text to a file. Returns 0 or -errno. */
static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* Write a formatted text to a file. Returns 0 or -errno. */
static inline int put(const char *path, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return write_file(path, text);
}

/* Read a file whole, as a string. Returns its length or -errno. */
static inline int read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	size_t len = 0;
	ssize_t got;

	if (fd < 0)
		return -errno;
	while ((got = read(fd, buf + len, size - 1 - len)) > 0)
		len += got;
	close(fd);
	if (got < 0)
		return -errno;
	buf[len] = '\0';
	return len;
}

/* A field of a file of "name number" or "name: number" lines, or -1. */
static inline long long field(const char *path, const char *name)
{
	static char text[65536];
	size_t len = strlen(name);
	char *at = text;

	if (read_file(path, text, sizeof(text)) < 0)
		return -1;
	do {
		if (!strncmp(at, name, len) && at[len] &&
		    strchr(": \t", at[len]))
			return strtoll(at + len + 1, NULL, 10);
		at = strchr(at, '\n');
	} while (at++);
	return -1;
}

static inline long long vm_counter(const char *name)
{
	return field("/proc/vmstat", name);
}

static inline int verify_present(void)
{
	return geteuid() == 0 && access(VERIFY_DIR "run", W_OK) == 0;
}

/*
 * Asked first in each test, not in a fixture's setup: the harness goes on with
 * the test when its setup said SKIP.
 */
#define NEEDS_VERIFY	"needs root and CONFIG_DEBUG_VM_VERIFY"
#define NEEDS_INJECT	"needs root and CONFIG_DEBUG_VM_VERIFY_INJECT"

static inline int inject_present(void)
{
	return geteuid() == 0 && access(VERIFY_DIR "inject", W_OK) == 0;
}

static inline int verify_run(const char *name)
{
	return write_file(VERIFY_DIR "run", name);
}

static inline int verify_inject(const char *verifier, const char *finding)
{
	char words[64];

	snprintf(words, sizeof(words), "%s %s", verifier, finding);
	return write_file(VERIFY_DIR "inject", words);
}

/* The verifier's line of the report. Returns 0, or -errno. */
static inline int verify_line(const char *verifier, char *line, size_t size)
{
	static char report[16384];
	int ret = read_file(VERIFY_DIR "report", report, sizeof(report));
	char *at, *save;

	if (ret < 0)
		return ret;
	for (at = strtok_r(report, "\n", &save); at;
	     at = strtok_r(NULL, "\n", &save)) {
		size_t len = strlen(verifier);

		if (!strncmp(at, verifier, len) && at[len] == ' ') {
			snprintf(line, size, "%s", at);
			return 0;
		}
	}
	return -ENOENT;
}

/*
 * The number behind "name=" in a line of the report: of a finding, that of the
 * last run. Returns -1 when there is none.
 */
static inline long long verify_number(const char *line, const char *name)
{
	char key[64];
	const char *at;

	snprintf(key, sizeof(key), " %s=", name);
	at = strstr(line, key);
	return at ? strtoll(at + strlen(key), NULL, 10) : -1;
}

/*
 * The delay points: what is asked for ends when the file is closed. All return
 * 0 or a number that is asked for, or -errno.
 */
static inline int delay_open(void)
{
	int fd = open(VERIFY_DIR "delay", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static inline int delay_write(int fd, const char *words)
{
	return write(fd, words, strlen(words)) < 0 ? -errno : 0;
}

static inline int delay_set(int fd, const char *point, unsigned int us)
{
	char words[64];

	snprintf(words, sizeof(words), "%s %u", point, us);
	return delay_write(fd, words);
}

/* How often somebody has begun to wait at the point. */
static inline long long delay_entered(int fd, const char *point)
{
	size_t len = strlen(point);
	char text[1024], *at = text;
	ssize_t got = pread(fd, text, sizeof(text) - 1, 0);

	if (got < 0)
		return -errno;
	text[got] = '\0';
	do {
		if (!strncmp(at, point, len) && at[len] == ' ') {
			strtoll(at + len, &at, 10);
			return strtoll(at, NULL, 10);
		}
		at = strchr(at, '\n');
	} while (at++);
	return -ENOENT;
}

/* The factor that the runner was given for time limits. */
static inline int test_scale(void)
{
	const char *text = getenv("MM_TEST_SCALE");
	int scale = text ? atoi(text) : 1;

	return scale > 0 ? scale : 1;
}

#endif /* _SELFTESTS_MM_VERIFY_H */
