// SPDX-License-Identifier: GPL-2.0
/*
 * Samples memory, swap, LRU sizes, groups, pressure and the verifiers' report
 * once a second, and follows the kernel log.
 *
 * usage: swapload_sample FILE [GROUP_A GROUP_B]
 *
 * FILE gets a header and a line a second, separated by tabs; "-" is what this
 * kernel does not have. Lines of the kernel log that tell of a bug, an OOM kill
 * or a violation go to the event log. Runs until SIGTERM.
 */
#include "swapload.h"

static const char *const splats[] = {
	"BUG: ", "kernel BUG at", "WARNING: ", "Oops: ", "Bad page ",
	"list_add corruption", "list_del corruption", "blocked for more than",
	"detected stalls", "self-detected stall", "soft lockup",
	"general protection fault", "bad swap ", "Bad swap ", "bad rss-counter",
	"refcount_t: ", "unable to handle",
};

static const char *const fs_errors[] = {
	"EXT4-fs error", "EXT4-fs warning", "I/O error, dev", "JBD2: ",
	"Buffer I/O error",
};

static unsigned long nr_splats, nr_fs_errors, nr_ooms, nr_global_ooms;
static unsigned long nr_read_errors, nr_write_errors;
static bool found;

static bool one_of(const char *text, const char *const *list, size_t n)
{
	while (n--)
		if (strstr(text, list[n]))
			return true;
	return false;
}

static void log_line(const char *text)
{
	if (strstr(text, "Read-error on swap-device")) {
		nr_read_errors++;
		swapload_status("swap_read_errors", "%lu", nr_read_errors);
	} else if (strstr(text, "Write-error on swap-device")) {
		nr_write_errors++;
	} else if (strstr(text, "mm_verify:") && strstr(text, "violation")) {
		swapload_event("verify", "%s", text);
	} else if (strstr(text, "oom-kill:") && strstr(text, "/swapload/w,")) {
		/* The writers' own; swapload_groups.h tells of it. */
		return;
	} else if (strstr(text, "oom-kill:")) {
		nr_ooms++;
		if (!strstr(text, "constraint=CONSTRAINT_MEMCG"))
			nr_global_ooms++;
		swapload_event("oom", "%s", text);
	} else if (one_of(text, splats, sizeof(splats) / sizeof(*splats))) {
		nr_splats++;
		swapload_event("splat", "%s", text);
	} else if (one_of(text, fs_errors,
			  sizeof(fs_errors) / sizeof(*fs_errors))) {
		nr_fs_errors++;
		swapload_event("note", "%s", text);
	} else {
		return;
	}
	found = true;
}

static void kernel_log(int fd)
{
	char buf[8192], *text, *end;
	ssize_t len;
	int lost = 0;

	while (fd >= 0 && lost < 100) {
		len = read(fd, buf, sizeof(buf) - 1);
		if (len < 0 && errno == EPIPE) {
			lost++;	/* overwritten; the next read goes on */
			continue;
		}
		if (len <= 0)
			break;
		buf[len] = '\0';
		text = strchr(buf, ';');
		if (!text)
			continue;
		text++;
		end = strchr(text, '\n');
		if (end)
			*end = '\0';
		/* What user space wrote there says nothing about the kernel. */
		if (strtoul(buf, NULL, 10) >> 3)
			continue;
		log_line(text);
	}
	if (lost)
		swapload_event("note", "kernel log: parts were lost");
	if (found || lost)
		swapload_status("kernel",
				"splats=%lu fs_errors=%lu ooms=%lu global_ooms=%lu swap_read_errors=%lu swap_write_errors=%lu",
				nr_splats, nr_fs_errors, nr_ooms,
				nr_global_ooms, nr_read_errors,
				nr_write_errors);
	found = false;
}

static long long number_in(const char *dir, const char *file)
{
	char path[PATH_MAX], buf[64];

	if (!dir)
		return -1;
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return swapload_read(path, buf, sizeof(buf)) > 0 ?
	       strtoll(buf, NULL, 10) : -1;
}

/* memory.stat's swap is v1's; v2 has a file. */
static long long group_swap(const char *dir)
{
	char path[PATH_MAX], buf[8192];
	long long value = number_in(dir, "memory.swap.current");

	if (value >= 0 || !dir)
		return value;
	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	return swapload_read(path, buf, sizeof(buf)) > 0 ?
	       swapload_field(buf, "swap") : -1;
}

static long long group_usage(const char *dir)
{
	long long value = number_in(dir, "memory.current");

	return value >= 0 ? value : number_in(dir, "memory.usage_in_bytes");
}

/* The sum of total= of all verifiers. */
static long long violations(void)
{
	char buf[8192], *p;
	long long sum = 0;

	if (swapload_read("/sys/kernel/debug/mm_verify/report", buf,
			  sizeof(buf)) <= 0)
		return -1;
	for (p = buf; (p = strstr(p, " total=")); p += 7)
		sum += strtoll(p + 7, NULL, 10);
	return sum;
}

static void put(FILE *f, long long value)
{
	if (value < 0)
		fprintf(f, "\t-");
	else
		fprintf(f, "\t%lld", value);
}

static void put_pressure(FILE *f, const char *what, const char *line)
{
	char path[64], buf[512], *p;

	snprintf(path, sizeof(path), "/proc/pressure/%s", what);
	if (swapload_read(path, buf, sizeof(buf)) > 0) {
		p = strstr(buf, line);
		p = p ? strstr(p, "avg10=") : NULL;
		if (p) {
			fprintf(f, "\t%.2f", strtod(p + 6, NULL));
			return;
		}
	}
	fprintf(f, "\t-");
}

static long long counter(const char *name, const char *key)
{
	const char *dir = getenv("SWAPLOAD_STATUS");
	char path[PATH_MAX], buf[1024], *p;

	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "/tmp", name);
	if (swapload_read(path, buf, sizeof(buf)) <= 0)
		return -1;
	p = strstr(buf, key);
	return p ? strtoll(p + strlen(key), NULL, 10) : -1;
}

static const char *const meminfo[] = {
	"MemFree", "MemAvailable", "Cached", "Shmem", "AnonPages", "Dirty",
	"Writeback", "SwapFree",
};

static const char *const lru[] = {
	"Active(anon)", "Inactive(anon)", "Active(file)", "Inactive(file)",
	"Unevictable",
};

#define HEADER "seconds\tMemFree\tMemAvailable\tCached\tShmem\tAnon\tDirty\tWriteback\tSwapFree\t" \
	"pswpin\tpswpout\tactive_anon\tinactive_anon\tactive_file\tinactive_file\tunevictable\t" \
	"ksm_sharing\tgroup_a\tgroup_b\tgroup_a_swap\tgroup_b_swap\tpsi_mem_some\tpsi_mem_full\t" \
	"psi_io_full\tverify_violations\toom_kill\titerations_tmpfs\titerations_ext4\tobjects_compared\n"

int main(int argc, char **argv)
{
	const char *a = argc == 4 ? argv[2] : NULL, *b = argc == 4 ? argv[3] : NULL;
	long long in0 = -1, out0 = -1, in, out, oom, ksm, ksm_max = 0;
	static char buf[32768];
	int log;
	FILE *f;

	if (argc != 2 && argc != 4) {
		fprintf(stderr, "usage: swapload_sample FILE [GROUP_A GROUP_B]\n");
		return 2;
	}
	f = fopen(argv[1], "we");
	if (!f) {
		perror(argv[1]);
		return 1;
	}
	setlinebuf(f);
	log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log >= 0)
		lseek(log, 0, SEEK_END);
	swapload_signals();
	swapload_unkillable();
	fputs(HEADER, f);

	for (;;) {
		long long c1, c2;
		unsigned int i;

		kernel_log(log);
		fprintf(f, "%.1f", swapload_now());
		swapload_read("/proc/meminfo", buf, sizeof(buf));
		for (i = 0; i < sizeof(meminfo) / sizeof(*meminfo); i++)
			put(f, swapload_field(buf, meminfo[i]));
		{
			long long values[5];

			for (i = 0; i < 5; i++)
				values[i] = swapload_field(buf, lru[i]);
			swapload_read("/proc/vmstat", buf, sizeof(buf));
			in = swapload_field(buf, "pswpin");
			out = swapload_field(buf, "pswpout");
			oom = swapload_field(buf, "oom_kill");
			if (in0 < 0) {
				in0 = in;
				out0 = out;
			}
			put(f, in - in0);
			put(f, out - out0);
			for (i = 0; i < 5; i++)
				put(f, values[i]);
		}
		ksm = number_in("/sys/kernel/mm/ksm", "pages_sharing");
		if (ksm > ksm_max)
			ksm_max = ksm;
		put(f, ksm);
		put(f, group_usage(a));
		put(f, group_usage(b));
		put(f, group_swap(a));
		put(f, group_swap(b));
		put_pressure(f, "memory", "some");
		put_pressure(f, "memory", "full");
		put_pressure(f, "io", "full");
		put(f, violations());
		put(f, oom);
		put(f, counter("build.tmpfs", "iterations="));
		put(f, counter("build.ext4", "iterations="));
		c1 = counter("build.tmpfs", "compared=");
		c2 = counter("build.ext4", "compared=");
		put(f, (c1 > 0 ? c1 : 0) + (c2 > 0 ? c2 : 0));
		fprintf(f, "\n");
		swapload_status("sample", "swap_in=%lld swap_out=%lld ksm_max=%lld",
				in - in0, out - out0, ksm_max);
		if (swapload_stop)
			break;
		swapload_sleep(1000);
	}
	kernel_log(log);
	return 0;
}
