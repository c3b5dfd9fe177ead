// SPDX-License-Identifier: GPL-2.0
/*
 * Files that are written through shared mappings. Which byte the CPU wrote is
 * known from a dirty bit in a page table alone, until that bit has reached the
 * page; when it gets lost on the way, reclaim drops the page as clean and the
 * file has its old content again.
 *
 * usage: swapload_mapped TMPFS_FILE DISK_FILE
 *
 * In turn, until SIGTERM:
 *  - in tmpfs: two MiB are mapped by a read, or by a write, as a huge page when
 *    there is one; written, unmapped, left alone, and checked before and after
 *    they are paged out.
 *  - on a disk's file system: pages are dirtied while the mapping is replaced
 *    and dropped, and the first page is written back and evicted; what is
 *    there must be what was written last.
 *
 * Exit status: 0, 2 on a usage error.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "swapload.h"

#define PAGE		4096UL
#define SIZE		(2UL << 20)
#define PAGES		(SIZE / PAGE)
#define WORDS		(PAGE / sizeof(uint64_t))
#define EVENTS		20	/* told of each path; all are counted */

enum path { HUGE_READ, HUGE_WRITE, SMALL_READ, SMALL_WRITE, DISK_FIRST, DISK_REST, NR_PATHS };

/* How the event log and the report call them. */
static const char *const words[NR_PATHS] = {
	"huge tmpfs mapping, read fault first",
	"huge tmpfs mapping, write fault first",
	"tmpfs mapping of small pages, read fault first",
	"tmpfs mapping of small pages, write fault first",
	"first page of a file on a disk",
	"file on a disk",
};

static const char *const keys[NR_PATHS] = {
	"huge_read", "huge_write", "small_read", "small_write", "disk_first", "disk_rest",
};

/* Shared with the children that do the work, and may be killed at it. */
static struct counts {
	unsigned long long rounds[NR_PATHS], different[NR_PATHS];
	unsigned long long events[NR_PATHS];
	unsigned long long checked, failed;
	atomic_bool stop;
} *counts;

/* One access each, whatever the compiler thinks of it. */
static uint64_t peek(void *at)
{
	return atomic_load_explicit((atomic_ullong *)at, memory_order_relaxed);
}

static void poke(void *at, uint64_t value)
{
	atomic_store_explicit((atomic_ullong *)at, value, memory_order_relaxed);
}

static void status(void)
{
	unsigned long long done = 0, different = 0;
	char text[512];
	unsigned int i;
	int n = 0;

	for (i = 0; i < NR_PATHS; i++) {
		/* Both of the disk's are one round. */
		done += i == DISK_REST ? 0 : counts->rounds[i];
		different += counts->different[i];
		n += snprintf(text + n, sizeof(text) - n, " %s=%llu/%llu",
			      keys[i], counts->different[i], counts->rounds[i]);
	}
	swapload_status("mapped", "done=%llu failed=%llu checked_kb=%llu different=%llu%s",
			done, counts->failed, counts->checked * 4, different, text);
}

static void differs(enum path path, unsigned long pages, unsigned long first,
		    const char *when, uint64_t got, uint64_t want)
{
	counts->different[path] += pages;
	if (counts->events[path]++ < EVENTS)
		swapload_event("mapped",
			       "%s: %lu of %lu pages wrong %s, first page %lu: %016llx instead of %016llx",
			       words[path], pages, PAGES, when, first,
			       (unsigned long long)got, (unsigned long long)want);
}

/* Two aligned MiB of a file, so that a huge page fits. */
static uint64_t *map_file(int fd)
{
	char *map = mmap(NULL, 2 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	map = (char *)(((uintptr_t)map + SIZE - 1) & ~(SIZE - 1));
	map = mmap(map, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	return map == MAP_FAILED ? NULL : (uint64_t *)map;
}

/* Is all of it mapped by one entry of the page middle directory? */
static bool is_huge(const uint64_t *map)
{
	unsigned long start, end;
	bool here = false, huge = false;
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start == (uintptr_t)map;
		else if (here && !strncmp(line, "ShmemPmdMapped:", 15))
			huge = strtoul(line + 15, NULL, 10) << 10 == SIZE;
	}
	if (f)
		fclose(f);
	return huge;
}

static uint64_t word(uint64_t seed, unsigned long page, unsigned int i)
{
	return swapload_mix(seed ^ page << 40) + i;
}

static bool wrong(const uint64_t *data, uint64_t seed, unsigned long page,
		  uint64_t *got, uint64_t *want)
{
	unsigned int i;

	for (i = 0; i < WORDS; i++) {
		if (data[i] == word(seed, page, i))
			continue;
		*got = data[i];
		*want = word(seed, page, i);
		return true;
	}
	return false;
}

/* A page that was told of once is left out the next time. */
static void check(enum path path, int fd, const uint64_t *map, uint64_t seed,
		  bool *told, const char *when)
{
	uint64_t buf[WORDS], got = 0, want = 0, got1 = 0, want1 = 0;
	unsigned long page, first = 0, pages = 0;
	const uint64_t *data;

	for (page = 0; page < PAGES; page++) {
		data = map ? map + page * WORDS : buf;
		if (!map && pread(fd, buf, PAGE, page * PAGE) != (ssize_t)PAGE) {
			counts->failed++;
			return;
		}
		counts->checked++;
		if (told[page] || !wrong(data, seed, page, &got, &want))
			continue;
		told[page] = true;
		if (!pages++) {
			first = page;
			got1 = got;
			want1 = want;
		}
	}
	if (pages)
		differs(path, pages, first, when, got1, want1);
}

/* Returns 0, or 1 when it could not be done. */
static int in_tmpfs(const char *name, bool read_first)
{
	uint64_t *map, seed = swapload_random();
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	static bool told[PAGES];
	unsigned int tries, i;
	unsigned long page;
	enum path path;

	if (fd < 0)
		return 1;
	map = map_file(fd);
	if (!map || ftruncate(fd, 0) || ftruncate(fd, SIZE))
		return 1;
	madvise(map, SIZE, MADV_HUGEPAGE);
	for (tries = 0; tries < 4; tries++) {
		/* New pages are clean until something is written. */
		if (ftruncate(fd, 0) || ftruncate(fd, SIZE))
			return 1;
		if (read_first)
			peek(map);
		else
			poke(map, 1);
		if (is_huge(map))
			break;
	}
	for (page = 0; page < PAGES && read_first; page++)
		peek(map + page * WORDS);
	for (page = 0; page < PAGES; page++)
		for (i = 0; i < WORDS; i++)
			map[page * WORDS + i] = word(seed, page, i);
	if (is_huge(map))
		path = read_first ? HUGE_READ : HUGE_WRITE;
	else
		path = read_first ? SMALL_READ : SMALL_WRITE;
	munmap(map, SIZE);

	/* Time for reclaim, and whoever wants to break it. */
	swapload_sleep(1000);
	map = map_file(fd);
	if (!map)
		return 1;
	check(path, fd, map, seed, told, "when mapped again");
	madvise(map, SIZE, 21 /* MADV_PAGEOUT */);
	munmap(map, SIZE);
	check(path, fd, NULL, seed, told, "after they were paged out");
	counts->rounds[path]++;
	close(fd);
	return 0;
}

/* What the threads of in_file() do to one mapping at once. */
static struct {
	char *map;
	int fd;
	uint64_t wrote[PAGES];		/* the last value; [0]: the counter */
	uint64_t got, want;		/* of the first loss, when it differs */
} disk;

static void *dirty_rest(void *arg)
{
	uint64_t round;
	unsigned long page;

	(void)arg;
	for (round = 1; !counts->stop; round++) {
		for (page = 1; page < PAGES; page++) {
			poke(disk.map + page * PAGE, round);
			disk.wrote[page] = round;
		}
	}
	return NULL;
}

static void *count_first(void *arg)
{
	uint64_t n, got;

	(void)arg;
	for (n = 1; !counts->stop; n++) {
		poke(disk.map, n);
		disk.wrote[0] = n;
		got = peek(disk.map);
		if (got == n)
			continue;
		if (disk.got == disk.want) {
			disk.got = got;
			disk.want = n;
		}
	}
	return NULL;
}

static void *remap(void *arg)
{
	(void)arg;
	while (!counts->stop) {
		if (swapload_random() & 1)
			madvise(disk.map, SIZE, MADV_DONTNEED);
		else if (mmap(disk.map, SIZE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED | MAP_POPULATE, disk.fd,
			      0) == MAP_FAILED)
			break;
	}
	return NULL;
}

static void write_back_and_evict(void)
{
	while (!counts->stop && !swapload_stop) {
		msync(disk.map, PAGE, MS_SYNC);
		posix_fadvise(disk.fd, 0, PAGE, POSIX_FADV_DONTNEED);
	}
	_exit(0);
}

static int in_file(const char *name, bool unused)
{
	static void *(*const work[])(void *) = { dirty_rest, count_first, remap };
	uint64_t zero[WORDS] = { 0 }, got = 0, want = 0;
	unsigned long page, pages = 0, first = 0;
	pthread_t thread[3];
	unsigned int i, n;
	pid_t pid;

	(void)unused;
	disk.fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (disk.fd < 0)
		return 1;
	for (page = 0; page < PAGES; page++)
		if (pwrite(disk.fd, zero, PAGE, page * PAGE) != (ssize_t)PAGE)
			return 1;
	/* Blocks are there then, and no fault can fail for want of one. */
	if (fsync(disk.fd))
		return 1;
	disk.map = (char *)map_file(disk.fd);
	if (!disk.map)
		return 1;
	counts->stop = false;
	pid = fork();
	if (!pid)
		write_back_and_evict();
	for (n = 0; n < 3; n++)
		if (pthread_create(&thread[n], NULL, work[n], NULL))
			break;
	swapload_sleep(700);
	counts->stop = true;
	for (i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	munmap(disk.map, SIZE);
	if (pid < 0 || n < 3)
		return 1;
	if (disk.got != disk.want)
		differs(DISK_FIRST, 1, 0, "when read back at once",
			disk.got, disk.want);
	/* From the disk, then. */
	if (fsync(disk.fd))
		return 1;
	posix_fadvise(disk.fd, 0, SIZE, POSIX_FADV_DONTNEED);
	for (page = 0; page < PAGES; page++) {
		if (pread(disk.fd, zero, PAGE, page * PAGE) != (ssize_t)PAGE)
			return 1;
		counts->checked++;
		if (zero[0] == disk.wrote[page])
			continue;
		if (!page) {
			differs(DISK_FIRST, 1, 0, "on the disk", zero[0], disk.wrote[0]);
		} else if (!pages++) {
			first = page;
			got = zero[0];
			want = disk.wrote[page];
		}
	}
	if (pages)
		differs(DISK_REST, pages, first, "on the disk", got, want);
	counts->rounds[DISK_FIRST]++;
	counts->rounds[DISK_REST]++;
	return 0;
}

/* A process of its own: a fault that finds no memory or space ends in SIGBUS. */
static void in_child(int (*work)(const char *name, bool how), const char *name, bool how)
{
	pid_t pid = fork();
	int wstatus;

	if (!pid)
		_exit(work(name, how));
	if (pid < 0) {
		counts->failed++;
		return;
	}
	while (waitpid(pid, &wstatus, 0) < 0 && errno == EINTR)
		if (swapload_stop)
			kill(pid, SIGTERM);
	/* What it started in turn ends with it. */
	counts->stop = true;
	if (wstatus && !swapload_stop) {
		counts->failed++;
		swapload_event("note", "mapped: %s: ended with status %x", name, wstatus);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: swapload_mapped TMPFS_FILE DISK_FILE\n");
		return 2;
	}
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED) {
		perror("swapload_mapped");
		return 1;
	}
	swapload_signals();
	swapload_unkillable();
	while (!swapload_stop) {
		in_child(in_tmpfs, argv[1], true);
		status();
		if (!swapload_stop)
			in_child(in_tmpfs, argv[1], false);
		if (!swapload_stop)
			in_child(in_file, argv[2], false);
		status();
		swapload_sleep(2500 * swapload_pace());
	}
	status();
	return 0;
}
