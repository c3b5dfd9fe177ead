/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of every kind, settings that are put back, and children that hold both.
 */
#ifndef _SELFTESTS_MM_VERIFY_RMAP_H
#define _SELFTESTS_MM_VERIFY_RMAP_H

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm_verify.h"

#define KSM		"/sys/kernel/mm/ksm/"
#define THP		"/sys/kernel/mm/transparent_hugepage/"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MFD_HUGETLB
#define MFD_HUGETLB	4U
#endif

static size_t page_size, huge_size;

static void sizes(void)
{
	char text[32];

	page_size = sysconf(_SC_PAGESIZE);
	huge_size = 0;
	if (read_file(THP "hpage_pmd_size", text, sizeof(text)) > 0)
		huge_size = strtoul(text, NULL, 10);
}

/* A setting of the system, put back by restore_settings(). */
static struct setting {
	const char *path;
	char old[256];
} settings[8];
static unsigned int nr_settings;

static int set(const char *path, const char *value)
{
	struct setting *s = &settings[nr_settings];
	char *word, *end;

	if (nr_settings == ARRAY_SIZE(settings) ||
	    read_file(path, s->old, sizeof(s->old)) <= 0)
		return -1;
	/* Of "always [madvise] never", the chosen one. */
	word = strchr(s->old, '[');
	end = word ? strchr(word, ']') : NULL;
	if (end) {
		*end = '\0';
		memmove(s->old, word + 1, end - word);
	}
	s->path = path;
	nr_settings++;
	return write_file(path, value);
}

static void restore_settings(void)
{
	while (nr_settings) {
		nr_settings--;
		write_file(settings[nr_settings].path,
			   settings[nr_settings].old);
	}
}

static char *map(size_t size, int flags, int fd)
{
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

static char *map_anon(size_t size)
{
	return map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void touch(char *at, size_t size, int value)
{
	size_t i;

	for (i = 0; i < size; i += page_size)
		at[i] = value + i / page_size;
}

static void look(char *at, size_t size)
{
	size_t i;

	for (i = 0; i < size; i += page_size)
		asm volatile("" : : "r" (at[i]));
}

/* A huge page's worth of memory at an address that takes one. */
static char *map_aligned(int flags, int fd)
{
	char *at = map(2 * huge_size, MAP_PRIVATE | MAP_ANONYMOUS, -1), *to;

	if (!at)
		return NULL;
	to = (char *)(((unsigned long)at + huge_size - 1) & ~(huge_size - 1));
	munmap(at, to - at);
	munmap(to + huge_size, at + huge_size - to);
	at = mmap(to, huge_size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd,
		  0);
	if (at == MAP_FAILED)
		return NULL;
	madvise(at, huge_size, MADV_HUGEPAGE);
	return at;
}

/* How many huge pages PMDs map at an address, from smaps. */
static long long smaps_kb(const char *at, const char *field)
{
	char text[512], start[32];
	long long kb = -1;
	bool here = false;
	FILE *f = fopen("/proc/self/smaps", "r");

	if (!f)
		return -1;
	snprintf(start, sizeof(start), "%lx-", (unsigned long)at);
	while (fgets(text, sizeof(text), f)) {
		if (!strncmp(text, start, strlen(start)))
			here = true;
		else if (here && !strncmp(text, field, strlen(field)))
			kb = strtoll(text + strlen(field), NULL, 10);
		if (kb >= 0)
			break;
	}
	fclose(f);
	return kb;
}

/*
 * Children that hold what they inherited until they are let go.
 */
static pid_t held[64];
static unsigned int nr_held;
static int gate[2] = { -1, -1 };

static int hold_child(void (*first)(void *), void *arg)
{
	int ready[2];
	char c;
	pid_t pid;

	if (nr_held == ARRAY_SIZE(held) || pipe(ready))
		return -1;
	if (gate[0] < 0 && pipe(gate))
		return -1;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(gate[1]);
		if (first)
			first(arg);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		while (read(gate[0], &c, 1) > 0)
			;
		_exit(0);
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &c, 1) == 1)
		held[nr_held++] = pid;
	else
		pid = -1;
	close(ready[0]);
	return pid < 0 ? -1 : 0;
}

static void let_go(void)
{
	close(gate[0]);
	close(gate[1]);
	gate[0] = -1;
	gate[1] = -1;
	while (nr_held) {
		nr_held--;
		kill(held[nr_held], SIGKILL);
		waitpid(held[nr_held], NULL, 0);
	}
}

#endif /* _SELFTESTS_MM_VERIFY_RMAP_H */
