// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that goes offline, comes back, or could not go: isolation is undone
 * exactly, and a block that stayed is of the type that it had.
 */
#include <dirent.h>

#include "free_list_load.h"

#define MEMORY_DIR	"/sys/devices/system/memory/"

static struct verdict before, after;
static struct pipes pipes;

FIXTURE(offline) {
};

FIXTURE_SETUP(offline)
{
	if (missing())
		return;
	quiet();
}

FIXTURE_TEARDOWN(offline)
{
	close_pipes(&pipes);
	restore();
}

/* Offlining tries until a signal comes. */
static void interrupt(int signal)
{
}

static int set_state(const char *name, const char *state)
{
	struct sigaction act = { .sa_handler = interrupt };
	char path[300];
	int ret;

	sigaction(SIGALRM, &act, NULL);
	snprintf(path, sizeof(path), MEMORY_DIR "%s/state", name);
	alarm(2);
	ret = put(path, "%s", state);
	alarm(0);
	return ret;
}

static const char * const types[] = {
	"Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate",
};

#define NR_TYPES	ARRAY_SIZE(types)

static void count_blocks(long long *counts)
{
	unsigned int i;

	for (i = 0; i < NR_TYPES; i++)
		counts[i] = blocks_of(types[i]);
}

/* Every memory block is tried. Blocks that changed type in vain are counted. */
static int try_all(struct __test_metadata *_metadata, int *gone, int *stayed)
{
	long long was[NR_TYPES], is[NR_TYPES];
	DIR *dir = opendir(MEMORY_DIR);
	struct dirent *entry;
	unsigned int i;
	int ret, changed = 0, number;

	while (dir && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, "memory%d", &number) != 1)
			continue;
		count_blocks(was);
		ret = set_state(entry->d_name, "offline");
		if (!ret) {
			++*gone;
			EXPECT_EQ(0, set_state(entry->d_name, "online"));
			continue;
		}
		++*stayed;
		count_blocks(is);
		for (i = 0; i < NR_TYPES; i++)
			if (was[i] > is[i]) {
				changed += was[i] - is[i];
				TH_LOG("%s, which stayed (%d): %s %lld -> %lld",
				       entry->d_name, ret, types[i], was[i],
				       is[i]);
			}
	}
	if (dir)
		closedir(dir);
	return changed;
}

TEST_F_TIMEOUT(offline, type_kept, 300)
{
	int gone = 0, stayed = 0, changed;

	if (missing())
		SKIP(return, "%s", missing());
	if (access(MEMORY_DIR "auto_online_blocks", R_OK))
		SKIP(return, "needs CONFIG_MEMORY_HOTREMOVE");
	/* More of it goes while it is empty. What comes back sets this anew. */
	changed = try_all(_metadata, &gone, &stayed);
	put(VM "min_free_kbytes", "4096");
	/* Unmovable blocks that are free, with some that are not among them. */
	fill_pipes(&pipes, fillable() / 2);
	close_pipes(&pipes);
	fill_pipes(&pipes, 100);
	drain_cpus();
	judge(_metadata, &before, "before");
	changed += try_all(_metadata, &gone, &stayed);
	TH_LOG("%d times offline and online, %d times not, %d pageblocks changed type",
	       gone, stayed, changed);
	EXPECT_EQ(0, changed);
	judge(_metadata, &after, "after");
	EXPECT_GE(before.type, after.type);
	EXPECT_GE(before.straddle, after.straddle);
	if (_metadata->passed && !(gone && stayed))
		SKIP(return, "needs memory blocks that go offline, and some that do not");
}

TEST_HARNESS_MAIN
