/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the free lists see: a verdict of the free_lists verifier,
 * the types of pageblocks, what is reserved and what was reported. The settings
 * that they change.
 */
#ifndef _SELFTESTS_MM_FREE_LIST_VERDICT_H
#define _SELFTESTS_MM_FREE_LIST_VERDICT_H

#include "../kselftest_harness.h"
#include "mm_verify.h"

#define VM		"/proc/sys/vm/"
#define NR_HUGEPAGES	VM "nr_hugepages"
#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define REPORTING_ORDER	"/sys/module/page_reporting/parameters/page_reporting_order"
#define HWPOISON	"/sys/kernel/debug/hwpoison/"

/* The first number in a file, or -errno. */
static inline long long get(const char *path)
{
	char text[64];
	int ret = read_file(path, text, sizeof(text));

	return ret < 0 ? ret : strtoll(text, NULL, 10);
}

static inline long long meminfo_kb(const char *name)
{
	return field("/proc/meminfo", name);
}

/*
 * Free memory that an unmovable request takes: not that of CMA, and not that of
 * the lowest zone, which is kept for those that can use no other.
 */
static inline long long free_kb(void)
{
	static char text[65536];
	char *at, *save, zone[16] = "";
	long long pages = 0, n;

	if (read_file("/proc/zoneinfo", text, sizeof(text)) < 0)
		return 0;
	for (at = strtok_r(text, "\n", &save); at;
	     at = strtok_r(NULL, "\n", &save)) {
		if (sscanf(at, "Node %*d, zone %15s", zone) == 1 ||
		    !strcmp(zone, "DMA"))
			continue;
		if (sscanf(at, " pages free %lld", &n) == 1)
			pages += n;
		else if (sscanf(at, " nr_free_cma %lld", &n) == 1)
			pages -= n;
	}
	return pages * 4;
}

/**
 * struct verdict - one run of the free_lists verifier
 * @line: its line of the report
 * @type: entries on the list of another type than their block's
 * @straddle: buddies over blocks of different types
 * @counters: findings that counters and lists differ
 * @damage: every other finding
 * @misplaced: pages behind @type and @straddle
 * @drift: pages that NR_FREE_PAGES differs from the lists by
 */
struct verdict {
	char line[2048];
	long long type, straddle, counters, damage, misplaced, drift;
};

static inline int verify_free_lists(struct verdict *v)
{
	static const char * const damage[] = {
		"order", "align", "buddy", "zone", "links", "overlap", "nr_free",
	};
	unsigned int i;
	int ret = verify_run("free_lists");

	if (!ret)
		ret = verify_line("free_lists", v->line, sizeof(v->line));
	if (ret)
		return ret;
	v->type = verify_number(v->line, "type");
	v->straddle = verify_number(v->line, "straddle");
	v->counters = verify_number(v->line, "nr_free_pages") +
		      verify_number(v->line, "nr_free_cma") +
		      verify_number(v->line, "isolated");
	v->damage = 0;
	for (i = 0; i < ARRAY_SIZE(damage); i++)
		v->damage += verify_number(v->line, damage[i]);
	v->misplaced = verify_number(v->line, "misplaced_pages");
	v->drift = verify_number(v->line, "drift_pages");
	return 0;
}

/* Pageblocks of a type in all zones, or -1. */
static inline long long blocks_of(const char *type)
{
	static char text[65536];
	char *at, *save, *names[16];
	long long sum = 0;
	int column = -1, nr = 0;

	if (read_file("/proc/pagetypeinfo", text, sizeof(text)) < 0)
		return -1;
	at = strstr(text, "Number of blocks type");
	if (!at)
		return -1;
	at = strtok_r(at + strlen("Number of blocks type"), "\n", &save);
	for (names[0] = strtok(at, " "); names[nr]; names[++nr] = strtok(NULL, " "))
		if (!strcmp(names[nr], type))
			column = nr;
	if (column < 0)
		return -1;
	while ((at = strtok_r(NULL, "\n", &save)) && !strncmp(at, "Node", 4)) {
		char *number = strstr(at, "zone") + strlen("zone");
		long long n = 0;
		int i;

		number += strspn(number, " ");
		number += strcspn(number, " ");
		for (i = 0; i <= column; i++)
			n = strtoll(number, &number, 10);
		sum += n;
	}
	return sum;
}

/*
 * Settings that a test changes; restore() gives all of them back. What they
 * were is read once, before the first test, so that one that was killed does
 * not pass its own on.
 */
static struct {
	const char *path;
	char was[64];
} settings[] = {
	{ VM "min_free_kbytes" },
	{ VM "watermark_boost_factor" },
	{ VM "watermark_scale_factor" },
	{ VM "lowmem_reserve_ratio" },
	{ NR_HUGEPAGES },
	{ THP "enabled" },
	{ THP "khugepaged/pages_to_scan" },
	{ REPORTING_ORDER },
};

static inline void restore(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(settings); i++)
		if (settings[i].was[0])
			write_file(settings[i].path, settings[i].was);
}

__attribute__((constructor))
static inline void read_settings(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		char *was = settings[i].was, *chosen, text[64];

		if (read_file(settings[i].path, was, sizeof(text)) < 0)
			was[0] = '\0';
		/* Of a choice, the one in brackets. */
		chosen = strchr(was, '[');
		if (chosen && sscanf(chosen, "[%63[^]]", text) == 1)
			strcpy(was, text);
	}
}

/* What all zones account as reserved for such requests, or -1. */
static inline long long reserved_kb(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), ret;
	long long kb = 0, zones = 0;
	char record[8192], *at;

	if (fd < 0)
		return -1;
	lseek(fd, 0, SEEK_END);
	write_file("/proc/sysrq-trigger", "m");
	while ((ret = read(fd, record, sizeof(record) - 1)) > 0 ||
	       (ret < 0 && errno == EPIPE)) {
		if (ret < 0)
			continue;
		record[ret] = '\0';
		at = strstr(record, " reserved_highatomic:");
		if (at) {
			kb += strtoll(strchr(at, ':') + 1, NULL, 10);
			zones++;
		}
	}
	close(fd);
	return zones ? kb : -1;
}

/* What the balloon device has been told shows in its interrupts; -1: none. */
static inline long long reports(void)
{
	static char text[65536];
	char *at, *save, *device = NULL;
	long long sum = 0;
	int n;

	for (n = 0; n < 16 && !device; n++) {
		char path[64], name[16];

		snprintf(name, sizeof(name), "virtio%d", n);
		snprintf(path, sizeof(path), "/sys/bus/virtio/devices/%s/device",
			 name);
		/* A balloon, which offers VIRTIO_BALLOON_F_REPORTING. */
		if (read_file(path, text, sizeof(text)) < 0 ||
		    strtol(text, NULL, 16) != 5)
			continue;
		snprintf(path, sizeof(path), "/sys/bus/virtio/devices/%s/features",
			 name);
		if (read_file(path, text, sizeof(text)) > 5 && text[5] == '1')
			device = strdup(name);
	}
	if (!device || access(REPORTING_ORDER, W_OK) ||
	    read_file("/proc/interrupts", text, sizeof(text)) < 0)
		return -1;
	for (at = strtok_r(text, "\n", &save); at;
	     at = strtok_r(NULL, "\n", &save)) {
		char *number = strchr(at, ':'), *end;

		if (!number || !strstr(at, device))
			continue;
		for (number++; ; number = end) {
			long long one = strtoll(number, &end, 10);

			if (end == number)
				break;
			sum += one;
		}
	}
	free(device);
	return sum;
}

static inline const char *verdict_text(const struct verdict *v)
{
	static char text[256];

	snprintf(text, sizeof(text),
		 "type %lld, straddle %lld, misplaced pages %lld, counters %lld, drift pages %lld",
		 v->type, v->straddle, v->misplaced, v->counters, v->drift);
	return text;
}

/*
 * Run the verifier and say what it found. Counters and lists may never differ,
 * and there is no kernel whose lists may be damaged.
 */
static inline void judge(struct __test_metadata *_metadata, struct verdict *v,
			 const char *when)
{
	ASSERT_EQ(0, verify_free_lists(v));
	TH_LOG("%s: %s", when, verdict_text(v));
	EXPECT_EQ(0, v->damage) TH_LOG("%s", v->line);
	EXPECT_EQ(0, v->counters) TH_LOG("%s", v->line);
}

#endif /* _SELFTESTS_MM_FREE_LIST_VERDICT_H */
