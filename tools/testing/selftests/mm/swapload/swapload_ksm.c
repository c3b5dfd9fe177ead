// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that KSM merges: processes with pages of few different contents, that
 * write to some of them (which has to unmerge), set them back, check them all
 * the time, and are replaced now and then.
 *
 * usage: swapload_ksm PROCESSES MEGABYTES_EACH
 *
 * Whether KSM runs is the caller's business. Runs until SIGTERM. Exit status:
 * 0, 2 on a usage error.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include "swapload.h"

#define PAGE		4096UL
#define WORDS		(PAGE / sizeof(uint64_t))
#define CONTENTS	16
#define MAX_PROCESSES	64

static struct {
	unsigned long long checked, different, unmerged, forks, refused;
} *shared;

static unsigned long nr_pages;

static uint64_t word(unsigned int content, unsigned int i)
{
	return swapload_mix(0x6b736dULL + content) + i / 8;
}

static void fill(uint64_t *page, unsigned int content)
{
	unsigned int i;

	for (i = 0; i < WORDS; i++)
		page[i] = word(content, i);
}

static void check(const uint64_t *page, unsigned int content, unsigned long n)
{
	unsigned int i;

	__sync_fetch_and_add(&shared->checked, 1);
	for (i = 0; i < WORDS; i++) {
		if (page[i] == word(content, i))
			continue;
		__sync_fetch_and_add(&shared->different, 1);
		swapload_event("corrupt",
			       "ksm: process %d page %lu word %u: %016llx instead of %016llx",
			       getpid(), n, i, (unsigned long long)page[i],
			       (unsigned long long)word(content, i));
		return;
	}
}

/* One process's life, some seconds to a minute long. */
static int life(void)
{
	double end = swapload_uptime() + 5 + swapload_random() % 60;
	uint64_t *map = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *content = malloc(nr_pages);
	unsigned long n;
	unsigned int i;

	if (map == MAP_FAILED || !content)
		return 1;
	if (madvise(map, nr_pages * PAGE, MADV_MERGEABLE))
		return 1;
	for (n = 0; n < nr_pages && !swapload_stop; n++) {
		content[n] = swapload_random() % CONTENTS;
		fill(map + n * WORDS, content[n]);
	}
	while (!swapload_stop && swapload_uptime() < end) {
		for (i = 0; i < 256 && !swapload_stop; i++) {
			n = swapload_random() % nr_pages;
			check(map + n * WORDS, content[n], n);
			if (swapload_random() % 4)
				continue;
			content[n] = swapload_random() % CONTENTS;
			fill(map + n * WORDS, content[n]);
			__sync_fetch_and_add(&shared->unmerged, 1);
		}
		if (swapload_random() % 64 == 0) {
			/* Merging is taken back for all of it. */
			madvise(map, nr_pages * PAGE, MADV_UNMERGEABLE);
			madvise(map, nr_pages * PAGE, MADV_MERGEABLE);
		}
		swapload_sleep(50 * swapload_pace());
	}
	return 0;
}

static void status(void)
{
	swapload_status("ksm", "done=%llu different=%llu rewritten=%llu processes=%llu failed=%llu",
			shared->checked, shared->different, shared->unmerged,
			shared->forks, shared->refused);
}

int main(int argc, char **argv)
{
	unsigned long processes = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
	unsigned long mb = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	pid_t pids[MAX_PROCESSES] = { 0 };
	unsigned long i;
	int wstatus;

	if (!processes || processes > MAX_PROCESSES || !mb) {
		fprintf(stderr, "usage: swapload_ksm PROCESSES MEGABYTES_EACH\n");
		return 2;
	}
	nr_pages = mb << (20 - 12);
	swapload_signals();
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("swapload_ksm");
		return 2;
	}
	while (!swapload_stop) {
		for (i = 0; i < processes; i++) {
			if (pids[i] > 0 && !waitpid(pids[i], &wstatus, WNOHANG))
				continue;
			if (pids[i] > 0 && wstatus)
				shared->refused++;
			pids[i] = fork();
			if (!pids[i])
				_exit(life());
			shared->forks++;
		}
		status();
		swapload_sleep(1000);
	}
	for (i = 0; i < processes; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGTERM);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	status();
	return 0;
}
