// SPDX-License-Identifier: GPL-2.0
/*
 * A tmpfs file of known content, so that memory is short whatever is built,
 * and so that data lost by swap shows at once and not only through a compiler.
 *
 * usage: swapload_ballast FILE MEGABYTES
 *
 * Walks through the file in random runs of pages: checks each page through a
 * mapping or through read(), writes it anew, or punches it out. Which content
 * a page must have is kept in anonymous memory, that may be swapped too. Runs
 * until SIGTERM. Exit status: 0, 1 when the file cannot be made.
 */
#include <sys/mman.h>

#include "swapload.h"

#define PAGE	4096UL
#define WORDS	(PAGE / sizeof(uint64_t))
#define RUN	64

/* 0: a hole, all zero. */
static uint32_t *generation;
static unsigned long nr_pages;
static unsigned long long checked, different, unreadable;

static uint64_t word(unsigned long page, uint32_t gen, unsigned int i)
{
	if (!gen)
		return 0;
	return swapload_mix((uint64_t)page << 32 ^ gen) + i;
}

static void check(const uint64_t *data, unsigned long page, const char *how)
{
	unsigned int i, bad = 0, first = 0;

	for (i = 0; i < WORDS; i++) {
		if (data[i] == word(page, generation[page], i))
			continue;
		if (!bad++)
			first = i;
	}
	checked++;
	if (!bad)
		return;
	different++;
	if (different <= 20)
		swapload_event("ballast",
			       "page %lu through %s: %u of %lu words wrong, first %u: %016llx instead of %016llx (generation %u)",
			       page, how, bad, WORDS, first,
			       (unsigned long long)data[first],
			       (unsigned long long)word(page, generation[page], first),
			       generation[page]);
}

static void fill(uint64_t *data, unsigned long page)
{
	unsigned int i;

	for (i = 0; i < WORDS; i++)
		data[i] = word(page, generation[page], i);
}

static void status(void)
{
	swapload_status("ballast", "checked_kb=%llu different=%llu unreadable=%llu",
			checked * 4, different, unreadable);
}

int main(int argc, char **argv)
{
	unsigned long page, end, mb = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	unsigned long long rounds = 0;
	uint64_t buf[WORDS], *map;
	int fd;

	if (!mb) {
		fprintf(stderr, "usage: swapload_ballast FILE MEGABYTES\n");
		return 2;
	}
	nr_pages = mb << (20 - 12);
	swapload_signals();
	fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	generation = calloc(nr_pages, sizeof(*generation));
	if (fd < 0 || !generation || ftruncate(fd, nr_pages * PAGE)) {
		perror("swapload_ballast");
		return 1;
	}
	map = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   fd, 0);
	if (map == MAP_FAILED) {
		perror("swapload_ballast: mmap");
		return 1;
	}
	for (page = 0; page < nr_pages && !swapload_stop; page++) {
		generation[page] = 1;
		fill(buf, page);
		if (pwrite(fd, buf, PAGE, page * PAGE) != (ssize_t)PAGE) {
			perror("swapload_ballast: write");
			return 1;
		}
	}
	status();
	swapload_status("ballast.filled", "done=1");

	while (!swapload_stop) {
		unsigned int what = swapload_random() % 8;

		page = swapload_random() % nr_pages;
		end = page + RUN < nr_pages ? page + RUN : nr_pages;
		for (; page < end && !swapload_stop; page++) {
			if (what & 1) {
				/* SIGBUS would end it, and is a finding. */
				check(map + page * WORDS, page, "mapping");
			} else if (pread(fd, buf, PAGE, page * PAGE) == (ssize_t)PAGE) {
				check(buf, page, "read");
			} else {
				unreadable++;
				swapload_event("ballast", "page %lu: read: %s",
					       page, strerror(errno));
			}
			if (what < 2)
				continue;
			/* A hole is written anew, data is seldom punched out. */
			if (what == 7 && generation[page]) {
				generation[page] = 0;
				if (fallocate(fd, FALLOC_FL_PUNCH_HOLE |
					      FALLOC_FL_KEEP_SIZE,
					      page * PAGE, PAGE)) {
					swapload_event("note", "punch: %s",
						       strerror(errno));
					break;
				}
				continue;
			}
			generation[page] = (uint32_t)(swapload_random() | 1);
			if (what & 1) {
				fill(map + page * WORDS, page);
				continue;
			}
			fill(buf, page);
			if (pwrite(fd, buf, PAGE, page * PAGE) != (ssize_t)PAGE) {
				swapload_event("note", "ballast: write: %s",
					       strerror(errno));
				/* Neither content is certain any more. */
				generation[page] = 0;
				fallocate(fd, FALLOC_FL_PUNCH_HOLE |
					  FALLOC_FL_KEEP_SIZE,
					  page * PAGE, PAGE);
			}
		}
		if (++rounds % 8 == 0)
			status();
		swapload_sleep(100 * swapload_pace());
	}
	status();
	return 0;
}
