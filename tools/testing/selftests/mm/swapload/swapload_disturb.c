// SPDX-License-Identifier: GPL-2.0
/*
 * The disturbers of the swapping load: each does one thing over and over that
 * moves, takes away or gives back what the builds are using.
 *
 * usage: swapload_disturb NAME [ARGUMENT...]   runs until SIGTERM
 *        swapload_disturb -l                   names and their arguments
 *        swapload_disturb reap ID              kills the processes of run ID
 *
 * Exit status: 0, 2 on a usage error, 3 when this machine cannot do it; the
 * reason is on stderr. What a disturber changes for good, its caller puts back.
 */
#include <dirent.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "swapload.h"
#include "swapload_victim.h"

static const char *name;
static char **args;
static int nr_args;
static unsigned long long done, failed, other;
static const char *other_name = "other";

static void status(void)
{
	swapload_status(name, "done=%llu failed=%llu %s=%llu", done, failed,
			other_name, other);
}

static void cannot(const char *what, int err)
{
	fprintf(stderr, "%s%s%s\n", what, err ? ": " : "",
		err ? strerror(err) : "");
	exit(3);
}

static int put(const char *path, const char *fmt, long long value)
{
	char text[64];

	snprintf(text, sizeof(text), fmt, value);
	return swapload_write(path, text);
}

static void count(int ret)
{
	if (ret < 0)
		failed++;
	else
		done++;
}

static void needs(const char *path)
{
	if (access(path, W_OK))
		cannot(path, errno);
}

/* Run something that may last or be killed in a process of its own. */
static int in_child(int (*work)(const char *what), const char *what,
		    unsigned int seconds)
{
	int wstatus;
	pid_t pid;

	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		alarm(seconds);
		_exit(-work(what));
	}
	while (waitpid(pid, &wstatus, 0) < 0) {
		if (errno != EINTR)
			return -errno;
		if (swapload_stop)
			kill(pid, SIGTERM);
	}
	if (WIFSIGNALED(wstatus))
		return -EINTR;
	return -WEXITSTATUS(wstatus);
}

#include "swapload_groups.h"
#include "swapload_pools.h"

/* compact */
static void compact_init(void)
{
	needs("/proc/sys/vm/compact_memory");
}

static void compact(void)
{
	count(swapload_write("/proc/sys/vm/compact_memory", "1"));
}

/* migrate: the pages of the load's own processes go from node to node */
static int nodes[2] = { -1, -1 };

static void migrate_init(void)
{
	char path[64], buf[4096];
	int i, n = 0;

	for (i = 0; i < 64 && n < 2; i++) {
		long long total = 0;
		char *p;

		snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", i);
		if (swapload_read(path, buf, sizeof(buf)) <= 0)
			continue;
		p = strstr(buf, "MemTotal:");
		if (p)
			total = strtoll(p + 9, NULL, 10);
		if (total > 0)
			nodes[n++] = i;
	}
	if (n < 2)
		cannot("one memory node only (numa=fake=2 makes two)", 0);
	other_name = "pages_left";
}

/* Does the process belong to run id? Kernel threads and zombies do not. */
static bool ours(const char *pid, const char *id)
{
	char path[64], want[128], *p;
	static char env[65536];
	int len;

	snprintf(path, sizeof(path), "/proc/%s/environ", pid);
	snprintf(want, sizeof(want), "SWAPLOAD_ID=%s", id);
	len = swapload_read(path, env, sizeof(env));
	for (p = env; len > 0 && p < env + len; p += strlen(p) + 1)
		if (!strcmp(p, want))
			return true;
	return false;
}

static void migrate(void)
{
	unsigned long from = 1UL << nodes[0], to = 1UL << nodes[1], swap;
	const char *id = getenv("SWAPLOAD_ID");
	struct dirent *entry;
	DIR *proc;
	long ret;

	if (swapload_random() & 1) {
		swap = from;
		from = to;
		to = swap;
	}
	proc = opendir("/proc");
	if (!proc)
		return;
	while (!swapload_stop && (entry = readdir(proc))) {
		if (*entry->d_name < '1' || *entry->d_name > '9' || !id ||
		    swapload_random() % 3 || !ours(entry->d_name, id))
			continue;
		ret = syscall(SYS_migrate_pages, atoi(entry->d_name), 64UL, &from, &to);
		if (ret > 0)
			other += ret;
		if (ret >= 0)
			done++;
		else if (errno != ESRCH)
			failed++;
	}
	closedir(proc);
}

/* swapoff AREA...: one area at a time goes away and comes back */
static int swap_off(const char *area)
{
	return swapoff(area) ? -errno : 0;
}

static void swapoff_init(void)
{
	if (nr_args < 2)
		cannot("needs two swap areas of the load's own", 0);
	other_name = "interrupted";
}

static void swapoff_on(void)
{
	static unsigned int turn;
	const char *area = args[turn++ % nr_args];
	int ret;

	ret = in_child(swap_off, area, 240);
	if (ret == -EINTR)
		other++;
	else
		count(ret);
	if (!ret)
		swapload_sleep(1000);
	if (swapon(area, 0) && errno != EBUSY) {
		failed++;
		swapload_event("disturb", "swapoff: swapon %s: %s", area,
			       strerror(errno));
	}
}

/* thp: the settings that can be flipped while pages are in use */
static const char *const thp_files[] = {
	"/sys/kernel/mm/transparent_hugepage/enabled",
	"/sys/kernel/mm/transparent_hugepage/defrag",
	"/sys/kernel/mm/transparent_hugepage/shmem_enabled",
	"/sys/kernel/mm/transparent_hugepage/khugepaged/defrag",
	"/sys/kernel/mm/transparent_hugepage/use_zero_page",
};

static void thp_init(void)
{
	needs(thp_files[0]);
}

static void thp(void)
{
	static const char *const values[][5] = {
		{ "always", "madvise", "never", "always", NULL },
		{ "always", "defer", "defer+madvise", "madvise", "never" },
		{ "always", "within_size", "never", "force", "deny" },
		{ "1", "0", NULL, NULL, NULL },
		{ "1", "0", NULL, NULL, NULL },
	};
	unsigned int i = swapload_random() % 5, n = 5;

	while (!values[i][n - 1])
		n--;
	if (access(thp_files[i], W_OK))
		return;
	count(swapload_write(thp_files[i], values[i][swapload_random() % n]));
}

/* mglru: pages go from the one kind of list to the other */
#define MGLRU "/sys/kernel/mm/lru_gen/enabled"
static void mglru_init(void)
{
	needs(MGLRU);
}

static void mglru(void)
{
	static const char *const values[] = { "7", "0", "1", "7", "0", "3" };
	static unsigned int i;

	count(swapload_write(MGLRU, values[i++ % 6]));
}

/* drop_caches */
static void drop_caches_init(void)
{
	needs("/proc/sys/vm/drop_caches");
}

static void drop_all(void)
{
	count(put("/proc/sys/vm/drop_caches", "%lld", 1 + swapload_random() % 3));
}

/* mlock FILE: anonymous memory and a tmpfs file are locked and unlocked */
#define MLOCK_SIZE (8UL << 20)
static char *mlock_map[2];

static void mlock_init(void)
{
	int fd = nr_args ? open(args[0], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

	if (fd < 0 || ftruncate(fd, MLOCK_SIZE))
		cannot("the file to lock", errno);
	mlock_map[0] = mmap(NULL, MLOCK_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mlock_map[1] = mmap(NULL, MLOCK_SIZE, PROT_READ | PROT_WRITE,
			    MAP_SHARED, fd, 0);
	if (mlock_map[0] == MAP_FAILED || mlock_map[1] == MAP_FAILED)
		cannot("mmap", errno);
	swapload_killable();
}

static void mlock_churn(void)
{
	char *map = mlock_map[swapload_random() & 1];
	unsigned long at = (swapload_random() % (MLOCK_SIZE / 2)) & ~4095UL;
	unsigned long len = (swapload_random() % (MLOCK_SIZE / 2)) | 1;

	switch (swapload_random() % 6) {
	case 0:
	case 1:
		count(mlock(map + at, len));
		break;
	case 2:
		count(syscall(SYS_mlock2, map + at, len, 1 /* MLOCK_ONFAULT */));
		break;
	case 3:
		count(munlock(map, MLOCK_SIZE));
		break;
	case 4:
		memset(map + at, 'm', len);
		done++;
		break;
	case 5:
		/* Locked pages are left to the end of the mapping. */
		count(madvise(map + at, len & ~4095UL, MADV_DONTNEED) &&
		      errno != EINVAL ? -1 : 0);
		break;
	}
}

/* failslab, fail_page_alloc: system calls of a victim fail, see the header */
static void victim_init(void)
{
	if (access("/proc/self/make-it-fail", W_OK))
		cannot("/proc/self/make-it-fail", errno);
	other_name = "unexpected";
}

static void victim(void)
{
	struct victim_counts counts = { 0 };
	int ret;

	ret = victim_run(args[0], &counts);
	done += counts.expected;
	other += counts.unexpected;
	if (ret)
		failed++;
}

/*
 * fail_make_request: the caller has set up that requests to the swap areas
 * fail; the errors are counted by the kernel log, see swapload_sample.c.
 */
static void fail_make_request_init(void)
{
	if (!nr_args)
		cannot("no swap area is a block device of its own", 0);
	other_name = "switched_off";
}

static void fail_make_request(void)
{
	int i;

	for (i = 0; i < nr_args; i++)
		count(swapload_write(args[i], "1"));
	swapload_sleep(3000);
	for (i = 0; i < nr_args; i++)
		if (!swapload_write(args[i], "0"))
			other++;
}

static const struct disturber {
	const char *name;
	void (*init)(void);
	void (*step)(void);
	void (*end)(void);
	unsigned int ms;	/* between two steps */
	int args;		/* at least */
	const char *usage;
} disturbers[] = {
	{ "compact", compact_init, compact, NULL, 1000, 0, "" },
	{ "move_charge", move_charge_init, move_charge, NULL, 200, 2, "GROUP_A GROUP_B" },
	{ "migrate", migrate_init, migrate, NULL, 500, 0, "" },
	{ "swapoff", swapoff_init, swapoff_on, NULL, 10000, 0, "AREA..." },
	{ "thp", thp_init, thp, NULL, 500, 0, "" },
	{ "writers", writers_init, write_in_group, NULL, 8000, 0, "GROUP FILE" },
	{ "cma", cma_init, cma, cma_end, 300, 0, "" },
	{ "hugepages", hugepages_init, hugepages, NULL, 1500, 0, "" },
	{ "hugetlb_split", hugetlb_split_init, hugetlb_split, NULL, 3000, 0, "" },
	{ "hotplug", hotplug_init, hotplug, online_all, 5000, 0, "" },
	{ "min_free", min_free_init, min_free, NULL, 700, 0, "" },
	{ "rmdir", rmdir_init, remove_group, rmdir_end, 1000, 0, "PARENT FOLDER" },
	{ "mglru", mglru_init, mglru, NULL, 15000, 0, "" },
	{ "drop_caches", drop_caches_init, drop_all, NULL, 7000, 0, "" },
	{ "mlock", mlock_init, mlock_churn, NULL, 50, 1, "FILE" },
	{ "failslab", victim_init, victim, NULL, 100, 1, "FILE" },
	{ "fail_page_alloc", victim_init, victim, NULL, 100, 1, "FILE" },
	{ "fail_make_request", fail_make_request_init, fail_make_request, NULL, 9000, 0,
	  "MAKE_IT_FAIL..." },
};

#define NR (sizeof(disturbers) / sizeof(*disturbers))

/* Everything that run id started, whatever became of its parents. */
static int reap(const char *id)
{
	unsigned int round, killed = 0, found;
	struct dirent *entry;
	DIR *proc;

	for (round = 0; round < 600; round++) {
		proc = opendir("/proc");
		if (!proc)
			return 3;
		found = 0;
		while ((entry = readdir(proc))) {
			pid_t pid = atoi(entry->d_name);

			if (pid <= 1 || pid == getpid() || !ours(entry->d_name, id))
				continue;
			found++;
			if (!kill(pid, SIGKILL) && !round)
				killed++;
		}
		closedir(proc);
		if (!found) {
			printf("%u\n", killed);
			return 0;
		}
		usleep(100000);
	}
	fprintf(stderr, "%u processes do not end\n", found);
	return 1;
}

int main(int argc, char **argv)
{
	const struct disturber *d = NULL;
	unsigned int i, ms;

	if (argc == 2 && !strcmp(argv[1], "-l")) {
		for (i = 0; i < NR; i++)
			printf("%s %s\n", disturbers[i].name, disturbers[i].usage);
		return 0;
	}
	if (argc == 3 && !strcmp(argv[1], "reap"))
		return reap(argv[2]);
	for (i = 0; i < NR && argc > 1; i++)
		if (!strcmp(argv[1], disturbers[i].name))
			d = &disturbers[i];
	if (!d || argc - 2 < d->args) {
		fprintf(stderr, "usage: swapload_disturb -l | NAME [ARGUMENT...] | reap ID\n");
		return 2;
	}
	name = d->name;
	args = argv + 2;
	nr_args = argc - 2;
	swapload_signals();
	swapload_unkillable();
	d->init();
	status();
	ms = d->ms * swapload_pace();
	while (!swapload_stop) {
		d->step();
		status();
		swapload_sleep(ms / 2 + swapload_random() % (ms + 1));
	}
	if (d->end)
		d->end();
	status();
	return 0;
}
