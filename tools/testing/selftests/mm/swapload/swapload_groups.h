/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disturbers that need memory control groups. A part of swapload_disturb.c.
 */
#ifndef _SWAPLOAD_GROUPS_H
#define _SWAPLOAD_GROUPS_H

#include <sys/prctl.h>

/* move_charge GROUP_A GROUP_B: tasks go over, and with v1 their pages */
static void move_charge_init(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/memory.move_charge_at_immigrate", args[0]);
	needs(path);
	other_name = "gone";
}

static void move_charge(void)
{
	static unsigned int turn;
	char from[PATH_MAX], to[PATH_MAX], pids[8192], *p;
	int ret, moved = 0;

	snprintf(from, sizeof(from), "%s/cgroup.procs", args[turn & 1]);
	snprintf(to, sizeof(to), "%s/cgroup.procs", args[~turn & 1]);
	turn++;
	if (swapload_read(from, pids, sizeof(pids)) <= 0)
		return;
	for (p = strtok(pids, "\n"); p && moved < 6; p = strtok(NULL, "\n")) {
		if (swapload_random() & 1)
			continue;
		ret = swapload_write(to, p);
		if (ret == -ESRCH)
			other++;
		else
			count(ret);
		moved++;
	}
}

/* rmdir PARENT FOLDER: groups go away while their pages stay in tmpfs */
static void rmdir_init(void)
{
	if (nr_args < 2)
		cannot("no group of the memory controller", 0);
	other_name = "busy";
}

static int leave_pages(const char *what)
{
	char path[PATH_MAX], buf[65536];
	int fd, i, n = 16 + swapload_random() % 48;

	(void)what;
	snprintf(path, sizeof(path), "%s/swapload-r%llu", args[0], done % 6);
	strcat(path, "/cgroup.procs");
	if (swapload_write(path, "0"))
		return -EACCES;
	swapload_killable();
	snprintf(path, sizeof(path), "%s/swapload-r%llu", args[1], done % 6);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return -ENOENT;
	memset(buf, 'r', sizeof(buf));
	for (i = 0; i < n; i++)
		if (write(fd, buf, sizeof(buf)) != sizeof(buf))
			return -ENOSPC;
	return 0;
}

static void remove_group(void)
{
	char path[PATH_MAX];
	unsigned int tries;
	int ret;

	snprintf(path, sizeof(path), "%s/swapload-r%llu", args[0], done % 6);
	if (mkdir(path, 0755) && errno != EEXIST) {
		failed++;
		return;
	}
	ret = in_child(leave_pages, "", 60);
	for (tries = 0; rmdir(path) && errno == EBUSY && tries < 100; tries++) {
		other++;
		usleep(10000);
	}
	if (!access(path, F_OK) || (ret && ret != -EINTR))
		failed++;
	else
		done++;
}

static void rmdir_end(void)
{
	char path[PATH_MAX];
	unsigned int i;

	for (i = 0; i < 6; i++) {
		snprintf(path, sizeof(path), "%s/swapload-r%u", args[1], i);
		unlink(path);
		snprintf(path, sizeof(path), "%s/swapload-r%u", args[0], i);
		rmdir(path);
	}
}

/*
 * writers GROUP FILE: much more is written to a disk than the group may hold.
 * Its pages are clean as soon as they are written back, so nobody has to be
 * killed for it. Whether MGLRU was on is said of each kill.
 */
#define WRITER_MB	100
#define LRU_GEN		"/sys/kernel/mm/lru_gen/enabled"

static void writers_init(void)
{
	char path[PATH_MAX];

	if (nr_args < 2)
		cannot("no group of the memory controller", 0);
	snprintf(path, sizeof(path), "%s/cgroup.procs", args[0]);
	needs(path);
	other_name = "killed";
}

static int write_much(const char *path)
{
	static char buf[1 << 20];
	char procs[PATH_MAX];
	int fd, i;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", args[0]);
	if (swapload_write(procs, "0"))
		return -EACCES;
	/* The console is to tell whose OOM kill it is. */
	prctl(PR_SET_NAME, "swapload_writer");
	swapload_killable();
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	memset(buf, 'w', sizeof(buf));
	for (i = 0; i < WRITER_MB; i++)
		if (write(fd, buf, sizeof(buf)) != sizeof(buf))
			return -ENOSPC;
	return close(fd) ? -errno : 0;
}

static bool lru_gen_on(void)
{
	char buf[32];

	return swapload_read(LRU_GEN, buf, sizeof(buf)) > 0 &&
	       strtoul(buf, NULL, 16);
}

static void write_in_group(void)
{
	long long ooms = swapload_group_ooms(args[0]);
	bool on = lru_gen_on();
	struct stat st = { 0 };
	int ret;

	ret = in_child(write_much, args[1], 120 * swapload_pace());
	on |= lru_gen_on();
	stat(args[1], &st);
	unlink(args[1]);
	if (swapload_group_ooms(args[0]) > ooms) {
		failed++;
		other++;
		swapload_event("writer",
			       "lru_gen %s: OOM-killed after %lld of %d MB",
			       on ? "on" : "off", (long long)st.st_size >> 20,
			       WRITER_MB);
	} else if (!swapload_stop) {
		if (ret)
			swapload_event("note", "writers: %s", strerror(-ret));
		count(ret);
	}
}

#endif
