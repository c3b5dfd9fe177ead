// SPDX-License-Identifier: GPL-2.0
/*
 * Instructions an operation, counted inside the guest.
 *
 * Under qemu -accel tcg -icount shift=0,sleep=off the guest's TSC advances by
 * exactly one a guest instruction (1 ns of virtual time), so a difference of
 * two RDTSCs is a count of instructions, user and kernel, interrupts included.
 * The first thing done is to prove that with a loop of known length.
 *
 * Usage: bench [row[,row]...]      output: see README.md, "Output"
 * Needs root, /proc, /tmp, one CPU, and cgroup v2 with the memory controller.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define WARMUP		3
#define REPEATS		11
/* an operation: page tables and slabs come on top of what a row is about */
#define EVENT_SLACK	0.05

void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	printf("error ");
	vprintf(fmt, args);
	printf("\n");
	va_end(args);
	exit(1);
}

long must(long ret, const char *what)
{
	if (ret < 0)
		die("%s: %s", what, strerror(errno));
	return ret;
}

static inline uint64_t now(void)
{
	uint32_t lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

/* ------------------------------------------------ what the kernel counted */

struct events {
	double fault, alloc, free;	/* pgfault, sum of pgalloc_*, pgfree */
};

static int vmstat_fd;

/* One pread() of the whole file: the counters are summed when it starts. */
static struct events events(void)
{
	static char text[16384];
	struct events e = { 0, 0, 0 };
	char *save, *line;
	ssize_t n = pread(vmstat_fd, text, sizeof(text) - 1, 0);

	must(n, "read /proc/vmstat");
	text[n] = 0;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, ' ');

		if (!value)
			continue;
		*value++ = 0;
		if (!strcmp(line, "pgfault"))
			e.fault += strtod(value, NULL);
		else if (!strncmp(line, "pgalloc_", 8))
			e.alloc += strtod(value, NULL);
		else if (!strcmp(line, "pgfree"))
			e.free += strtod(value, NULL);
	}
	return e;
}

/* ------------------------------------------------------------ where we run */

static char root_group[64], own_group[64];

static void put(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC), path);

	if (write(fd, text, strlen(text)) < 0)
		die("write %s to %s: %s", text, path, strerror(errno));
	close(fd);
}

void leave_group(void)
{
	put(root_group, "0");
}

void enter_group(void)
{
	put(own_group, "0");
}

/* A group of our own: what runs on a real machine is in no root group. */
static void make_group(void)
{
	char dir[] = "/tmp/bench.XXXXXX", path[64];

	if (!mkdtemp(dir))
		die("mkdtemp %s: %s", dir, strerror(errno));
	must(mount("none", dir, "cgroup2", 0, NULL), "mount cgroup2");
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
	put(path, "+memory");
	snprintf(path, sizeof(path), "%s/bench", dir);
	must(mkdir(path, 0755), path);
	snprintf(root_group, sizeof(root_group), "%s/cgroup.procs", dir);
	snprintf(own_group, sizeof(own_group), "%s/bench/cgroup.procs", dir);
}

/*
 * Let what the preparation left behind (RCU callbacks, kworkers) finish, and
 * start every sample at one phase of the timer tick. Idle time is skipped
 * under sleep=off, so this costs nothing.
 */
#define SETTLE_NS	100000000L

static void settle(void)
{
	struct timespec at;

	must(clock_gettime(CLOCK_MONOTONIC, &at), "clock_gettime");
	at.tv_nsec = at.tv_nsec / SETTLE_NS * SETTLE_NS + 2 * SETTLE_NS;
	at.tv_sec += at.tv_nsec / 1000000000L;
	at.tv_nsec %= 1000000000L;
	if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL))
		die("clock_nanosleep failed");
}

/* -------------------------------------------------------------- measuring */

struct series {
	uint64_t ticks[REPEATS];
	struct events sum;
};

static int by_ticks(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void none(void)
{
}

/* One sample: the events are read outside the counted part. */
static uint64_t sample(const struct row *row, void (*op)(void), struct events *sum)
{
	struct events before, after;
	uint64_t begin, end;

	if (row->prepare)
		row->prepare();
	settle();
	before = events();
	begin = now();
	op();
	end = now();
	after = events();
	if (row->undo)
		row->undo();
	sum->fault += after.fault - before.fault;
	sum->alloc += after.alloc - before.alloc;
	sum->free += after.free - before.free;
	return end - begin;
}

static void measure(const struct row *row, void (*op)(void), struct series *out)
{
	for (int i = 0; i < WARMUP; i++)
		sample(row, op, &out->sum);
	memset(&out->sum, 0, sizeof(out->sum));
	for (int i = 0; i < REPEATS; i++)
		out->ticks[i] = sample(row, op, &out->sum);
	qsort(out->ticks, REPEATS, sizeof(out->ticks[0]), by_ticks);
}

static int expected(const struct row *row, const char *what, double want, double got)
{
	if (want == ANY || fabs(want - got) <= EVENT_SLACK)
		return 1;
	printf("refused %s %.3f %s an operation, not %.3f\n", row->name, got, what, want);
	return 0;
}

static void report(const struct row *row)
{
	/* the fixed part of a row without one is two RDTSCs and a call */
	static const struct row nothing;
	const char *why = row->refuse ? row->refuse() : NULL;
	struct series op, fixed;
	double n = (double)row->ops, all = n * REPEATS;

	if (why) {
		printf("refused %s %s\n", row->name, why);
		return;
	}
	measure(row->fixed ? row : &nothing, row->fixed ? row->fixed : none, &fixed);
	measure(row, row->op, &op);
	op.sum.fault -= fixed.sum.fault;
	op.sum.alloc -= fixed.sum.alloc;
	op.sum.free -= fixed.sum.free;
	if (!expected(row, "faults", row->fault, op.sum.fault / all) ||
	    !expected(row, "pages allocated", row->alloc, op.sum.alloc / all) ||
	    !expected(row, "pages freed", row->free, op.sum.free / all))
		return;
	printf("source %s %s\n", row->name, row->source);
	/* '=' is work that must be equal on every kernel, '~' comes as it comes */
	printf("row %s %s %ld %.3f %.3f pgfault=%.0f pgalloc%c%.0f pgfree%c%.0f",
	       row->name, row->unit, row->ops * REPEATS,
	       ((double)op.ticks[0] - (double)fixed.ticks[0]) / n,
	       ((double)op.ticks[REPEATS / 2] - (double)fixed.ticks[REPEATS / 2]) / n,
	       op.sum.fault, row->alloc == ANY ? '~' : '=', op.sum.alloc,
	       row->free == ANY ? '~' : '=', op.sum.free);
	if (row->fixed)
		printf(" fixed~%.0f", (double)fixed.ticks[REPEATS / 2] / n);
	printf("\n");
}

/* A loop of 200000 instructions; under icount it takes 200000 ticks. */
static void calibrate(void)
{
	const uint64_t instructions = 200000;
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < REPEATS; i++) {
		uint64_t n = instructions / 2, begin, taken;

		settle();
		begin = now();
		asm volatile("1: dec %0; jnz 1b" : "+r"(n) : : "cc");
		taken = now() - begin;
		if (taken < best)
			best = taken;
	}
	printf("calibration %llu %llu\n", (unsigned long long)instructions,
	       (unsigned long long)best);
}

/* ------------------------------------------------------------------ set up */

static void print_clocksource(void)
{
	char text[64] = "unknown";
	int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
		      O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		ssize_t n = read(fd, text, sizeof(text) - 1);

		if (n > 0)
			text[n] = 0;
		text[strcspn(text, "\n")] = 0;
		close(fd);
	}
	printf("clocksource %s\n", text);
}

static void set_up(void)
{
	vmstat_fd = must(open("/proc/vmstat", O_RDONLY | O_CLOEXEC), "/proc/vmstat");
	if (sysconf(_SC_NPROCESSORS_ONLN) != 1)
		die("needs exactly one CPU, as -icount does");
	must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), "PR_SET_THP_DISABLE");
	make_group();
	enter_group();
	set_up_rows();
}

static int wanted(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; p; p = strchr(p, ','), p = p ? p + 1 : NULL)
		if (!strncmp(p, name, len) && (p[len] == ',' || !p[len]))
			return 1;
	return !list;
}

int main(int argc, char **argv)
{
	const char *list = argc > 1 && *argv[1] ? argv[1] : NULL;
	long done = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	/* addresses decide how many page tables and tree nodes a row needs */
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {
		must(personality(ADDR_NO_RANDOMIZE), "personality");
		execv("/proc/self/exe", argv);
		die("execv /proc/self/exe: %s", strerror(errno));
	}
	printf("mm-lockstep-bench 1\n");
	set_up();
	print_clocksource();
	calibrate();
	for (long i = 0; i < nr_rows; i++) {
		if (!wanted(list, rows[i].name))
			continue;
		report(&rows[i]);
		done++;
	}
	if (!done)
		die("no row is called %s", list);
	printf("end %ld\n", done);
	return 0;
}
