/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs of the swapping load share: small files, the event log,
 * the counters each of them leaves for the report, and the end of the load.
 *
 * swapload.sh gives them, through the environment:
 *   SWAPLOAD_ID      one word a run, by which its processes are found
 *   SWAPLOAD_T0      /proc/uptime at which the load's clock is zero
 *   SWAPLOAD_EVENTS  the event log: seconds, kind, text
 *   SWAPLOAD_STATUS  folder of the counters, a file a program
 *   SWAPLOAD_WRITERS group whose OOM kills count apart, see swapload_groups.h
 *   SWAPLOAD_PACE    factor of the pauses; a slow machine must get to building
 */
#ifndef _SWAPLOAD_H
#define _SWAPLOAD_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static atomic_int swapload_stop;

static inline void swapload_on_stop(int sig)
{
	swapload_stop = sig;
}

/* TERM and INT ask for an orderly end; system calls are to be interrupted. */
static inline void swapload_signals(void)
{
	struct sigaction sa = { .sa_handler = swapload_on_stop };

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static inline double swapload_uptime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Seconds since the load began. */
static inline double swapload_now(void)
{
	static double t0 = -1;

	if (t0 < 0) {
		const char *text = getenv("SWAPLOAD_T0");

		t0 = text ? strtod(text, NULL) : swapload_uptime();
	}
	return swapload_uptime() - t0;
}

/* Sleeps, unless the end is asked for. */
static inline void swapload_sleep(unsigned int ms)
{
	struct timespec ts = { .tv_nsec = 20 * 1000000L };
	double end = swapload_uptime() + ms / 1e3;

	while (!swapload_stop && swapload_uptime() < end) {
		double left = end - swapload_uptime();

		if (left < 0.02)
			ts.tv_nsec = left > 0 ? left * 1e9 : 0;
		nanosleep(&ts, NULL);
	}
}

static inline unsigned int swapload_pace(void)
{
	const char *text = getenv("SWAPLOAD_PACE");
	int pace = text ? atoi(text) : 1;

	return pace > 0 ? pace : 1;
}

/* Write text to an existing file. Returns 0 or -errno. */
static inline int swapload_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* Read a file as a string, as much as fits. Returns its length or -errno. */
static inline int swapload_read(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t got;

	buf[0] = '\0';
	if (fd < 0)
		return -errno;
	while (len < size - 1 &&
	       (got = read(fd, buf + len, size - 1 - len)) > 0)
		len += got;
	close(fd);
	buf[len] = '\0';
	return len;
}

/* The number that follows a word at the start of a line, or -1. */
static inline long long swapload_field(const char *text, const char *word)
{
	size_t len = strlen(word);

	while (text && *text) {
		if (!strncmp(text, word, len) &&
		    (text[len] == ' ' || text[len] == ':' || text[len] == '\t'))
			return strtoll(text + len + 1, NULL, 10);
		text = strchr(text, '\n');
		if (text)
			text++;
	}
	return -1;
}

/* OOM kills in one group since it was made; 0 when it does not say. */
static inline long long swapload_group_ooms(const char *group)
{
	char path[PATH_MAX], buf[1024];
	long long kills;

	snprintf(path, sizeof(path), "%s/memory.events", group);
	if (swapload_read(path, buf, sizeof(buf)) < 0) {
		snprintf(path, sizeof(path), "%s/memory.oom_control", group);
		swapload_read(path, buf, sizeof(buf));
	}
	kills = swapload_field(buf, "oom_kill");
	return kills > 0 ? kills : 0;
}

/* OOM kills of the machine since boot, in groups or not, but the writers'. */
static inline long long swapload_oom_kills(void)
{
	const char *writers = getenv("SWAPLOAD_WRITERS");
	static char buf[16384];

	if (swapload_read("/proc/vmstat", buf, sizeof(buf)) < 0)
		return -1;
	return swapload_field(buf, "oom_kill") -
	       (writers && *writers ? swapload_group_ooms(writers) : 0);
}

/* One line of the event log; newlines in the text become " | ". */
static inline void swapload_event(const char *kind, const char *fmt, ...)
{
	const char *path = getenv("SWAPLOAD_EVENTS");
	char text[1024], line[2048];
	va_list args;
	size_t n;
	char *p;
	int fd;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	for (p = text; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = *p == '\n' ? '|' : ' ';
	n = snprintf(line, sizeof(line), "%.1f\t%s\t%s\n", swapload_now(),
		     kind, text);
	fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) :
		    dup(2);
	if (fd < 0)
		return;
	if (write(fd, line, n) < 0)
		perror("swapload: event log");
	close(fd);
}

/* Replace the counters of a program: words like "done=3 failed=1". */
static inline void swapload_status(const char *name, const char *fmt, ...)
{
	const char *dir = getenv("SWAPLOAD_STATUS");
	char path[PATH_MAX], tmp[PATH_MAX + 8], text[1024];
	va_list args;
	int fd;

	if (!dir)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text) - 1, fmt, args);
	va_end(args);
	strcat(text, "\n");
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) == (ssize_t)strlen(text))
		rename(tmp, path);
	close(fd);
}

/* Those who look must not be the ones that are killed. */
static inline void swapload_unkillable(void)
{
	swapload_write("/proc/self/oom_score_adj", "-1000");
}

static inline void swapload_killable(void)
{
	swapload_write("/proc/self/oom_score_adj", "0");
}

/* A generator of its own, so that a run needs no libc state. */
static inline uint64_t swapload_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static inline uint64_t swapload_random(void)
{
	static uint64_t state;

	if (!state)
		state = getpid() * 2654435761ULL + time(NULL);
	return swapload_mix(state++);
}

/* What a comparison of two files came to. */
struct swapload_diff {
	uint64_t bytes;		/* that differ */
	uint64_t pages;		/* 4 KiB pages with such bytes */
	uint64_t offset;	/* of the first */
	uint64_t size;		/* of the file that is checked */
	uint64_t ref_size;
	unsigned int got, want;	/* the first differing byte */
};

static inline int swapload_fill(int fd, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t got;

	while (len < size) {
		got = read(fd, buf + len, size - len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		len += got;
	}
	return len;
}

/*
 * Compare a file with its reference, byte by byte. Returns 0 when they are
 * the same, 1 when not, -errno when one cannot be read, with *broken telling
 * which.
 */
static inline int swapload_compare(const char *ref, const char *path,
				   struct swapload_diff *diff,
				   const char **broken)
{
	static char want[65536], got[65536];
	int fd, reffd, n, m, i, ret = 0;
	uint64_t page = UINT64_MAX;
	struct stat st;

	memset(diff, 0, sizeof(*diff));
	*broken = ref;
	reffd = open(ref, O_RDONLY | O_CLOEXEC);
	if (reffd < 0)
		return -errno;
	*broken = path;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		close(reffd);
		return ret;
	}
	if (!fstat(fd, &st))
		diff->size = st.st_size;
	if (!fstat(reffd, &st))
		diff->ref_size = st.st_size;
	for (uint64_t at = 0;; at += sizeof(got)) {
		n = swapload_fill(reffd, want, sizeof(want));
		m = swapload_fill(fd, got, sizeof(got));
		if (n < 0 || m < 0) {
			*broken = n < 0 ? ref : path;
			ret = n < 0 ? n : m;
			break;
		}
		for (i = 0; i < (n < m ? n : m); i++) {
			if (want[i] == got[i])
				continue;
			if (!diff->bytes++) {
				diff->offset = at + i;
				diff->want = (unsigned char)want[i];
				diff->got = (unsigned char)got[i];
			}
			if (page != (at + i) >> 12) {
				page = (at + i) >> 12;
				diff->pages++;
			}
		}
		if (n != m && !diff->bytes)
			diff->offset = at + (n < m ? n : m);
		if (n != m || n < (int)sizeof(want))
			break;
	}
	/* What is read later shall come from where it is kept. */
	posix_fadvise(reffd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	close(reffd);
	if (ret < 0)
		return ret;
	return diff->bytes || diff->size != diff->ref_size;
}

/* The words of a difference, for people. */
static inline const char *swapload_describe(const struct swapload_diff *diff)
{
	static char text[256];
	int n;

	if (diff->bytes)
		n = snprintf(text, sizeof(text),
			     "first difference at byte %llu (page %llu), %02x instead of %02x; %llu bytes in %llu pages differ",
			     (unsigned long long)diff->offset,
			     (unsigned long long)diff->offset >> 12,
			     diff->got, diff->want,
			     (unsigned long long)diff->bytes,
			     (unsigned long long)diff->pages);
	else
		n = snprintf(text, sizeof(text), "same up to byte %llu",
			     (unsigned long long)diff->offset);
	if (diff->size != diff->ref_size)
		snprintf(text + n, sizeof(text) - n,
			 "; %llu bytes long instead of %llu",
			 (unsigned long long)diff->size,
			 (unsigned long long)diff->ref_size);
	return text;
}

#endif
