/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disturbers that take memory and give it back: CMA, huge pages, memory blocks,
 * watermarks. A part of swapload_disturb.c.
 */
#ifndef _SWAPLOAD_POOLS_H
#define _SWAPLOAD_POOLS_H

/* cma: through debugfs, as a driver would */
static char cma_dirs[8][PATH_MAX];
static unsigned int nr_cma;
static unsigned long cma_held[8];

static void cma_init(void)
{
	const char *dir = "/sys/kernel/debug/cma";
	struct dirent *entry;
	DIR *d = opendir(dir);

	if (!d)
		cannot(dir, errno);
	while ((entry = readdir(d)) && nr_cma < 8)
		if (*entry->d_name != '.')
			snprintf(cma_dirs[nr_cma++], PATH_MAX, "%s/%s", dir,
				 entry->d_name);
	closedir(d);
	if (!nr_cma)
		cannot("no CMA area (boot with cma=64M)", 0);
	other_name = "pages";
}

static void cma_free(unsigned int i)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/free", cma_dirs[i]);
	if (!put(path, "%lld", cma_held[i]))
		cma_held[i] = 0;
}

static void cma(void)
{
	unsigned int i = swapload_random() % nr_cma;
	long long pages = 1LL << swapload_random() % 12;
	char path[PATH_MAX + 16];
	int ret;

	if (cma_held[i] && swapload_random() % 3 == 0) {
		cma_free(i);
		return;
	}
	snprintf(path, sizeof(path), "%s/alloc", cma_dirs[i]);
	ret = put(path, "%lld", pages);
	count(ret);
	if (!ret) {
		cma_held[i] += pages;
		other += pages;
	}
}

static void cma_end(void)
{
	unsigned int i;

	for (i = 0; i < nr_cma; i++)
		if (cma_held[i])
			cma_free(i);
}

/* hugepages: the pool grows to a tenth of memory and shrinks */
#define HUGEPAGES "/proc/sys/vm/nr_hugepages"
static long long huge_max;

static void hugepages_init(void)
{
	static char buf[8192];
	long long size;

	needs(HUGEPAGES);
	swapload_read("/proc/meminfo", buf, sizeof(buf));
	size = swapload_field(buf, "Hugepagesize");
	if (size <= 0)
		cannot("no Hugepagesize in /proc/meminfo", 0);
	huge_max = swapload_field(buf, "MemTotal") / 10 / size + 1;
	other_name = "pages_got";
}

static void hugepages(void)
{
	long long want = swapload_random() % 3 ? swapload_random() % huge_max : 0;
	char buf[32];
	int ret;

	ret = put(HUGEPAGES, "%lld", want);
	swapload_read(HUGEPAGES, buf, sizeof(buf));
	count(ret ? ret : atoll(buf) < want ? -ENOMEM : 0);
	other += atoll(buf);
}

/*
 * hugetlb_split: mappings of huge pages are cut in the middle. Works with what
 * the pool has, and takes two pages for it when that is not enough.
 */
static size_t huge_size;

static void hugetlb_split_init(void)
{
	static char buf[8192];

	needs(HUGEPAGES);
	swapload_read("/proc/meminfo", buf, sizeof(buf));
	huge_size = swapload_field(buf, "Hugepagesize") << 10;
	if ((ssize_t)huge_size <= 0)
		cannot("no Hugepagesize in /proc/meminfo", 0);
	other_name = "pool_grown";
}

static char *map_huge(void)
{
	return mmap(NULL, 2 * huge_size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
}

static void hugetlb_split(void)
{
	long long had = -1;
	char buf[32], *map = map_huge();
	int ret;

	if (map == MAP_FAILED &&
	    swapload_read(HUGEPAGES, buf, sizeof(buf)) > 0) {
		had = atoll(buf);
		put(HUGEPAGES, "%lld", had + 2);
		map = map_huge();
	}
	if (map == MAP_FAILED) {
		failed++;
	} else {
		map[0] = 1;
		map[huge_size] = 1;
		if (swapload_random() & 1)
			ret = munmap(map + huge_size, huge_size);
		else
			ret = mprotect(map + huge_size, huge_size, PROT_READ);
		count(ret ? -errno : 0);
		munmap(map, 2 * huge_size);
		other += had >= 0;
	}
	if (had >= 0)
		put(HUGEPAGES, "%lld", had);
}

/* hotplug: a memory block goes offline and comes back */
#define MEMORY "/sys/devices/system/memory"
static int offline_block(const char *path)
{
	return swapload_write(path, "offline");
}

static void hotplug_init(void)
{
	if (access(MEMORY "/block_size_bytes", R_OK))
		cannot(MEMORY, errno);
}

static void online_all(void)
{
	char path[PATH_MAX], buf[32];
	struct dirent *entry;
	DIR *d = opendir(MEMORY);

	while (d && (entry = readdir(d))) {
		if (strncmp(entry->d_name, "memory", 6))
			continue;
		snprintf(path, sizeof(path), MEMORY "/%s/state", entry->d_name);
		if (swapload_read(path, buf, sizeof(buf)) > 0 &&
		    !strncmp(buf, "offline", 7) &&
		    swapload_write(path, "online"))
			swapload_event("disturb", "hotplug: %s stays offline", path);
	}
	if (d)
		closedir(d);
}

static void hotplug(void)
{
	char path[PATH_MAX], chosen[PATH_MAX] = "", buf[64];
	bool movable = swapload_random() % 4, found_movable = false;
	struct dirent *entry;
	unsigned int n = 0;
	DIR *d = opendir(MEMORY);
	int ret;

	while (d && (entry = readdir(d))) {
		if (strncmp(entry->d_name, "memory", 6))
			continue;
		/* "none": in two zones or with a hole, and stays. */
		snprintf(path, sizeof(path), MEMORY "/%s/valid_zones", entry->d_name);
		if (swapload_read(path, buf, sizeof(buf)) <= 0 ||
		    !strncmp(buf, "none", 4))
			continue;
		/* Mostly one of ZONE_MOVABLE, if there is any. */
		if (movable && !found_movable && !strncmp(buf, "Movable", 7)) {
			found_movable = true;
			n = 0;
		}
		if (movable && found_movable && strncmp(buf, "Movable", 7))
			continue;
		if (swapload_random() % ++n == 0)
			snprintf(chosen, sizeof(chosen), MEMORY "/%s/state",
				 entry->d_name);
	}
	if (d)
		closedir(d);
	if (!n) {
		failed++;
		return;
	}
	ret = in_child(offline_block, chosen, 20);
	if (ret == -EINTR)
		other++;
	else
		count(ret);
	if (!ret)
		swapload_sleep(2000);
	/* As it was: movable only when it had been. */
	online_all();
}

/* min_free: the watermarks move between what they were and four times that */
#define MIN_FREE "/proc/sys/vm/min_free_kbytes"
static long long min_free_base;

static void min_free_init(void)
{
	char buf[32];

	needs(MIN_FREE);
	swapload_read(MIN_FREE, buf, sizeof(buf));
	min_free_base = atoll(buf);
}

static void min_free(void)
{
	count(put(MIN_FREE, "%lld", min_free_base +
		  swapload_random() % (3 * min_free_base + 1)));
}

#endif
