// SPDX-License-Identifier: GPL-2.0
/*
 * A group whose page cache is dirty faster than it can be written: the writer is
 * held up, and nobody is killed for memory that only has to be written back.
 * ext4 on a loop device on a file in tmpfs; with v1 groups as with v2.
 */
#include <linux/fs.h>

#include "../kselftest_harness.h"
#include "lru_load.h"

#define GROUP		"memcg_dirty"
#define NR_FILES	2
#define LIMIT_SECONDS	60

static struct backed disk;
static char mnt[64];

FIXTURE(dirty) {
};

FIXTURE_VARIANT(dirty) {
	const char *gen;
	long group_mib;
	const char *fs;
};

FIXTURE_VARIANT_ADD(dirty, classic_32) {
	.gen = "0", .group_mib = 32, .fs = "ext4",
};

FIXTURE_VARIANT_ADD(dirty, classic_64) {
	.gen = "0", .group_mib = 64, .fs = "ext4",
};

FIXTURE_VARIANT_ADD(dirty, gens_32) {
	.gen = "7", .group_mib = 32, .fs = "ext4",
};

FIXTURE_VARIANT_ADD(dirty, gens_64) {
	.gen = "7", .group_mib = 64, .fs = "ext4",
};

FIXTURE_VARIANT_ADD(dirty, xfs_classic_64) {
	.gen = "0", .group_mib = 64, .fs = "xfs",
};

FIXTURE_VARIANT_ADD(dirty, xfs_gens_64) {
	.gen = "7", .group_mib = 64, .fs = "xfs",
};

/* With a journal when the real mke2fs is there; busybox has one without. */
static int make_fs(const char *fs)
{
	const char * const real[] = { "mkfs.ext4", "-q", "-F", "-J", "size=4",
			       disk.path, NULL };
	const char * const plain[] = { "mke2fs", "-F", disk.path, NULL };
	const char * const xfs[] = { "mkfs.xfs", "-f", "-q", disk.path, NULL };

	if (!strcmp(fs, "xfs"))
		return run_quietly(xfs);
	return run_quietly(real) ? run_quietly(plain) : 0;
}

static bool can_make(const char *fs)
{
	const char * const xfs[] = { "mkfs.xfs", "-V", NULL };

	return strcmp(fs, "xfs") || !run_quietly(xfs);
}

FIXTURE_SETUP(dirty)
{
	if (geteuid() || !group_root() || !can_make(variant->fs))
		return;
	if (lru_gen_present())
		write_file(LRU_GEN, variant->gen);
	ASSERT_EQ(0, backed_open(&disk, "tmpfs", "dirty", 400));
	ASSERT_EQ(0, make_fs(variant->fs));
	snprintf(mnt, sizeof(mnt), "/tmp/dirty-mnt.%d", getpid());
	ASSERT_EQ(0, mkdir(mnt, 0700));
	ASSERT_EQ(0, mount(disk.path, mnt, variant->fs, 0, NULL));
	ASSERT_EQ(0, group_make(GROUP, variant->group_mib));
}

FIXTURE_TEARDOWN(dirty)
{
	if (lru_gen_present())
		write_file(LRU_GEN, "0");
	if (!mnt[0])
		return;
	umount(mnt);
	rmdir(mnt);
	mnt[0] = '\0';
	backed_close(&disk);
	group_remove(GROUP);
}

/* What dd bs=1M does, as a task of the group. */
static pid_t start_writing(const char *name, long mib)
{
	static char buf[1 << 20];
	char path[PATH_MAX];
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (group_enter(GROUP))
		_exit(1);
	snprintf(path, sizeof(path), "%s/%s", mnt, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		_exit(2);
	while (mib--)
		if (write(fd, buf, sizeof(buf)) != sizeof(buf))
			_exit(3);
	_exit(0);
}

static int write_file_in_group(const char *name, long mib)
{
	pid_t pid = start_writing(name, mib);
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

TEST_F_TIMEOUT(dirty, no_kill, 600)
{
	long long kills, throttled, scanned, reclaimed;
	double start, took, longest = 0;
	char name[16];
	int i;

	if (geteuid())
		SKIP(return, "needs root");
	if (!group_root())
		SKIP(return, "needs the memory controller");
	if (!lru_gen_present())
		SKIP(return, "needs CONFIG_LRU_GEN");
	if (!can_make(variant->fs))
		SKIP(return, "needs mkfs.xfs");

	throttled = vm_counter("nr_throttled_written");
	scanned = vm_counter("pgscan_file");
	reclaimed = vm_counter("pgsteal_file");
	for (i = 0; i < NR_FILES; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		start = now();
		EXPECT_EQ(0, write_file_in_group(name,
						 2 * variant->group_mib));
		took = now() - start;
		if (took > longest)
			longest = took;
	}
	kills = group_oom_kills(GROUP);
	scanned = vm_counter("pgscan_file") - scanned;
	reclaimed = vm_counter("pgsteal_file") - reclaimed;
	TH_LOG("%lld file pages scanned, %lld reclaimed", scanned, reclaimed);
	TH_LOG("cgroup v%d: %lld kills, longest file %.1f s, %lld pages written while throttled",
	       group_is_v1() ? 1 : 2, kills, longest,
	       vm_counter("nr_throttled_written") - throttled);
	EXPECT_EQ(0, kills);
	EXPECT_GT(LIMIT_SECONDS * test_scale(), longest);
}

/*
 * Many small files, synced: what a file system allocates for its own is charged
 * where it may not be entered, and reclaim may not wait for writeback there.
 */
static int small_files(int nr)
{
	char path[PATH_MAX], buf[8192] = "";
	int i, fd, status;
	pid_t pid = fork();

	if (!pid) {
		if (group_enter(GROUP))
			_exit(1);
		for (i = 0; i < nr; i++) {
			snprintf(path, sizeof(path), "%s/small.%d", mnt, i);
			fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
			if (fd < 0)
				_exit(2);
			if (write(fd, buf, sizeof(buf)) != sizeof(buf))
				_exit(3);
			if (i % 64 == 0)
				fsync(fd);
			close(fd);
		}
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

TEST_F_TIMEOUT(dirty, nofs, 600)
{
	if (geteuid())
		SKIP(return, "needs root");
	if (!group_root())
		SKIP(return, "needs the memory controller");
	if (!lru_gen_present())
		SKIP(return, "needs CONFIG_LRU_GEN");
	if (!can_make(variant->fs))
		SKIP(return, "needs mkfs.xfs");

	ASSERT_EQ(0, group_make(GROUP, 12));
	EXPECT_EQ(0, small_files(3000));
	EXPECT_EQ(0, group_oom_kills(GROUP));
}

/*
 * The file system below the loop device is frozen: writeback has begun and does
 * not end. Who reclaims in the group waits, but not with folios isolated that
 * nobody else can reclaim or migrate then.
 */
FIXTURE(frozen) {
	struct backed below;
	char below_mnt[64];
	int below_fd;
};

FIXTURE_VARIANT(frozen) {
	const char *gen;
};

FIXTURE_VARIANT_ADD(frozen, classic) {
	.gen = "0",
};

FIXTURE_VARIANT_ADD(frozen, gens) {
	.gen = "7",
};

FIXTURE_SETUP(frozen)
{
	const char * const mkfs[] = { "mke2fs", "-F", self->below.path, NULL };
	const char * const mkfs2[] = { "mke2fs", "-F", disk.path, NULL };
	char file[96];
	int fd;

	if (geteuid() || !group_root())
		return;
	if (lru_gen_present())
		write_file(LRU_GEN, variant->gen);
	ASSERT_EQ(0, backed_open(&self->below, "tmpfs", "below", 300));
	ASSERT_EQ(0, run_quietly(mkfs));
	snprintf(self->below_mnt, sizeof(self->below_mnt), "/tmp/below-mnt.%d",
		 getpid());
	ASSERT_EQ(0, mkdir(self->below_mnt, 0700));
	ASSERT_EQ(0, mount(self->below.path, self->below_mnt, "ext4", 0, NULL));
	snprintf(file, sizeof(file), "%s/image", self->below_mnt);
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 200 << 20));
	disk.loop = loop_device(fd, disk.path, sizeof(disk.path));
	close(fd);
	ASSERT_LE(0, disk.loop);
	ASSERT_EQ(0, run_quietly(mkfs2));
	ASSERT_EQ(0, fsync(disk.loop));
	snprintf(mnt, sizeof(mnt), "/tmp/dirty-mnt.%d", getpid());
	ASSERT_EQ(0, mkdir(mnt, 0700));
	ASSERT_EQ(0, mount(disk.path, mnt, "ext4", 0, NULL));
	ASSERT_EQ(0, group_make(GROUP, 32));
	self->below_fd = open(self->below_mnt, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->below_fd);
}

FIXTURE_TEARDOWN(frozen)
{
	if (lru_gen_present())
		write_file(LRU_GEN, "0");
	if (!mnt[0])
		return;
	close(self->below_fd);
	umount(mnt);
	rmdir(mnt);
	mnt[0] = '\0';
	ioctl(disk.loop, LOOP_CLR_FD);
	close(disk.loop);
	umount(self->below_mnt);
	rmdir(self->below_mnt);
	backed_close(&self->below);
	group_remove(GROUP);
}

/* File pages that are isolated, to the page. */
static long long isolated(void)
{
	write_file("/proc/sys/vm/stat_refresh", "1");
	return vm_counter("nr_isolated_file");
}

TEST_F_TIMEOUT(frozen, nothing_isolated, 300)
{
	int i, status, samples = 0, held = 0;
	pid_t pid;

	if (geteuid())
		SKIP(return, "needs root");
	if (!group_root())
		SKIP(return, "needs the memory controller");
	if (!group_is_v1())
		SKIP(return, "needs a v1 group");

	/* Metadata is there, so that writing back allocates no block below. */
	ASSERT_EQ(0, write_file_in_group("file", 48));
	sync();
	ASSERT_EQ(0, ioctl(self->below_fd, FIFREEZE, 0));
	pid = start_writing("file", 48);
	/* Long enough for the group to be full of folios under writeback. */
	sleep(2);
	for (i = 0; i < 40; i++) {
		usleep(50000);
		if (waitpid(pid, &status, WNOHANG))
			break;
		samples++;
		held += isolated() > 0;
	}
	ASSERT_EQ(0, ioctl(self->below_fd, FITHAW, 0));
	TH_LOG("%d samples, %d with file pages isolated", samples, held);
	EXPECT_EQ(40, samples);
	EXPECT_GT(samples / 2, held);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, group_oom_kills(GROUP));
}

/* Somebody else writes to another device, and nothing is in its way. */
static pid_t start_other_writer(struct backed *other)
{
	static char buf[1 << 20];
	pid_t pid;
	int fd;

	if (backed_open(other, "tmpfs", "other", 8))
		return -1;
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(other->path, O_RDWR | O_CLOEXEC);
	while (fd >= 0)
		if (pwrite(fd, buf, sizeof(buf), 0) != sizeof(buf) || fsync(fd))
			break;
	_exit(1);
}

/*
 * Others' writeback wakes up who waits for the group's. It must not use up what
 * patience there is before the group is out of memory.
 */
TEST_F_TIMEOUT(frozen, others_write, 300)
{
	struct backed other = {};
	int status, tries;
	pid_t pid, writer;

	if (geteuid())
		SKIP(return, "needs root");
	if (!group_root())
		SKIP(return, "needs the memory controller");
	if (strcmp(variant->gen, "0") && !lru_gen_present())
		SKIP(return, "needs CONFIG_LRU_GEN");

	ASSERT_EQ(0, write_file_in_group("file", 48));
	sync();
	writer = start_other_writer(&other);
	ASSERT_LT(0, writer);
	ASSERT_EQ(0, ioctl(self->below_fd, FIFREEZE, 0));
	pid = start_writing("file", 48);
	for (tries = 0; tries < 100; tries++) {
		usleep(100000);
		if (waitpid(pid, &status, WNOHANG))
			break;
	}
	ASSERT_EQ(0, ioctl(self->below_fd, FITHAW, 0));
	TH_LOG("%d of 100 tenths of a second", tries);
	EXPECT_EQ(100, tries);
	if (tries == 100) {
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
	}
	EXPECT_EQ(0, group_oom_kills(GROUP));
	/* It has nothing to end for by itself. */
	EXPECT_EQ(0, waitpid(writer, &status, WNOHANG));
	kill(writer, SIGKILL);
	waitpid(writer, &status, 0);
	backed_close(&other);
}

TEST_HARNESS_MAIN
