/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory cgroups as the tests see them: groups of the v1 hierarchy, or of v2
 * where v1 is not needed, their memory.stat, and a verdict of the memcg
 * verifier.
 */
#ifndef _SELFTESTS_MM_MEMCG_GROUP_H
#define _SELFTESTS_MM_MEMCG_GROUP_H

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "mm_verify.h"

#define NEEDS_V1	"needs root and the memory controller of cgroup v1"
#define NEEDS_GROUP	"needs root and a memory controller"

/* Findings about one counter, which is also the counter's name */
static const char * const memcg_counters[] = {
	"anon_mapped", "file_mapped", "file_pages", "shmem", "file_dirty",
	"writeback", "swapcache", "anon_thps", "shmem_thps", "file_thps",
	"shmem_pmdmapped", "file_pmdmapped",
};

static const char * const memcg_others[] = { "negative", "nodes", "hierarchy" };

/* Where a hierarchy with the memory controller is mounted; NULL when none. */
static inline const char *memcg_root(bool v1)
{
	static char dir[PATH_MAX], mounts[65536], controllers[1024];
	char type[64], options[1024], path[PATH_MAX + 32], *at, *save;

	if (geteuid() || read_file("/proc/mounts", mounts, sizeof(mounts)) < 0)
		return NULL;
	for (at = strtok_r(mounts, "\n", &save); at;
	     at = strtok_r(NULL, "\n", &save)) {
		if (sscanf(at, "%*s %4095s %63s %1023s", dir, type, options) != 3)
			continue;
		if (!strcmp(type, "cgroup") && strstr(options, "memory"))
			return dir;
		if (v1 || strcmp(type, "cgroup2"))
			continue;
		snprintf(path, sizeof(path), "%s/cgroup.controllers", dir);
		if (read_file(path, controllers, sizeof(controllers)) <= 0 ||
		    !strstr(controllers, "memory"))
			continue;
		snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
		write_file(path, "+memory");
		return dir;
	}
	return NULL;
}

/**
 * struct group - a memory cgroup
 * @dir: its folder
 */
struct group {
	char dir[PATH_MAX];
};

static inline int group_put(struct group *g, const char *file,
			    const char *format, ...)
{
	char path[PATH_MAX + 64], text[64];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), "%s/%s", g->dir, file);
	return write_file(path, text);
}

/* One that an aborted test left is taken over. */
static inline int group_make(struct group *g, const char *root,
			     const char *name)
{
	if (snprintf(g->dir, sizeof(g->dir), "%s/%s", root, name) >=
	    (int)sizeof(g->dir))
		return -ENAMETOOLONG;
	return mkdir(g->dir, 0755) && errno != EEXIST ? -errno : 0;
}

static inline int group_take(struct group *g, pid_t pid)
{
	return group_put(g, "cgroup.procs", "%d", pid);
}

/* Of a group whose tasks have just gone, some are still on their way out. */
static inline int group_remove(struct group *g)
{
	int tries = 200 * test_scale();

	while (rmdir(g->dir)) {
		if (errno != EBUSY || !tries--)
			return -errno;
		usleep(10000);
	}
	return 0;
}

/* A field of memory.stat, or -1. */
static inline long long group_stat(struct group *g, const char *name)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/memory.stat", g->dir);
	return field(path, name);
}

static inline long long group_usage(struct group *g)
{
	char path[PATH_MAX + 32], text[64];

	snprintf(path, sizeof(path), "%s/memory.usage_in_bytes", g->dir);
	return read_file(path, text, sizeof(text)) < 0 ? -1 :
							 strtoll(text, NULL, 10);
}

/**
 * struct memcg_verdict - one run of the memcg verifier
 * @line: its line of the report
 * @violations: findings of any kind
 * @unsettled: groups that were too busy to be compared
 */
struct memcg_verdict {
	char line[2048];
	long long violations;
	long long unsettled;
};

static inline int verify_memcg(struct memcg_verdict *v)
{
	unsigned int i;
	int ret = verify_run("memcg");

	if (!ret)
		ret = verify_line("memcg", v->line, sizeof(v->line));
	if (ret)
		return ret;
	v->unsettled = verify_number(v->line, "unsettled_groups") +
		       verify_number(v->line, "unsettled_trees");
	v->violations = 0;
	for (i = 0; i < sizeof(memcg_counters) / sizeof(*memcg_counters); i++)
		v->violations += verify_number(v->line, memcg_counters[i]);
	for (i = 0; i < sizeof(memcg_others) / sizeof(*memcg_others); i++)
		v->violations += verify_number(v->line, memcg_others[i]);
	return 0;
}

/* Until every group was quiet for long enough, or the patience is at its end. */
static inline int verify_memcg_settled(struct memcg_verdict *v)
{
	int tries = 20, ret;

	do {
		sync();
		ret = verify_memcg(v);
	} while (!ret && v->unsettled && --tries);
	return ret;
}

#endif /* _SELFTESTS_MM_MEMCG_GROUP_H */
