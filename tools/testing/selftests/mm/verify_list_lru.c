// SPDX-License-Identifier: GPL-2.0
/*
 * The list_lru verifier: it sees what it says it looks for, and what it says of
 * a machine where groups with dentries come and go.
 */
#include "../kselftest_harness.h"
#include "lru_load.h"

#define VERIFIER	"list_lru"
#define LOAD_SECONDS	15

static char line[2048];

static int verify_and_read(void)
{
	int ret = verify_run(VERIFIER);

	return ret ? ret : verify_line(VERIFIER, line, sizeof(line));
}

static long long violations(void)
{
	long long checked, found;

	if (sscanf(line, "%*s %lld %lld", &checked, &found) != 2)
		return -1;
	return found;
}

/* Unused dentries: names that are there, and names that are not. */
static void dentries(const char *dir, int nr)
{
	char path[PATH_MAX];
	int i, fd;

	for (i = 0; i < nr; i++) {
		snprintf(path, sizeof(path), "/proc/self/absent.%d", i);
		access(path, F_OK);
		snprintf(path, sizeof(path), "%s/file.%d", dir, i);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		close(fd);
	}
	for (i = 0; i < nr; i += 2) {
		snprintf(path, sizeof(path), "%s/file.%d", dir, i);
		unlink(path);
	}
}

/* Where dentries are kept on a list_lru: a file system on a block device. */
static struct backed disk;
static char mnt[64];

static int disk_open(void)
{
	const char * const mkfs[] = { "mke2fs", "-F", disk.path, NULL };
	int ret = backed_open(&disk, "tmpfs", "dentry", 32);

	if (ret)
		return ret;
	if (run_quietly(mkfs))
		return -EIO;
	snprintf(mnt, sizeof(mnt), "/tmp/dentry-mnt.%d", getpid());
	if (mkdir(mnt, 0700) || mount(disk.path, mnt, "ext4", 0, NULL))
		return -errno;
	return 0;
}

static void disk_close(void)
{
	umount(mnt);
	rmdir(mnt);
	backed_close(&disk);
}

/* A group whose task leaves dentries behind. */
static int group_with_dentries(const char *group, int nr)
{
	char dir[PATH_MAX];
	int status, ret;
	pid_t pid;

	ret = group_make(group, 0);
	if (ret)
		return ret;
	snprintf(dir, sizeof(dir), "%s/%s", mnt, group);
	pid = fork();
	if (!pid) {
		if (group_enter(group))
			_exit(1);
		mkdir(dir, 0700);
		dentries(dir, nr);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		return -EIO;
	return 0;
}

static void drop_dir(const char *group)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", mnt, group);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

FIXTURE(list_lru) {
};

FIXTURE_SETUP(list_lru)
{
	if (!verify_present())
		return;
	ASSERT_EQ(0, disk_open());
}

FIXTURE_TEARDOWN(list_lru)
{
	if (verify_present())
		disk_close();
}

TEST_F_TIMEOUT(list_lru, idle, 300)
{
	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	dentries(mnt, 200);
	ASSERT_EQ(0, verify_and_read());
	TH_LOG("%s", line);
	EXPECT_EQ(0, violations());
	EXPECT_LT(0, verify_number(line, "lrus"));
	EXPECT_EQ(0, verify_number(line, "uncounted_lists"));
	EXPECT_EQ(0, strncmp(line, VERIFIER " ", strlen(VERIFIER) + 1));
	EXPECT_LT(100, strtoll(line + strlen(VERIFIER), NULL, 10));
}

/* What a group leaves behind goes to its parent's lists. */
TEST_F_TIMEOUT(list_lru, group_goes, 300)
{
	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!group_root())
		SKIP(return, "needs the memory controller");

	ASSERT_EQ(0, group_with_dentries("verify_list_lru", 300));
	ASSERT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
	EXPECT_LT(100, verify_number(line, "memcg_items")) TH_LOG("%s", line);

	EXPECT_EQ(0, group_remove("verify_list_lru"));
	/* Taking it offline is left to a worker. */
	sleep(1);
	ASSERT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
	drop_dir("verify_list_lru");
}

/*
 * A group goes, and is held up between its objects and its lists becoming its
 * parent's. What is freed meanwhile is on the list of the one and in the count
 * of the other: a shrinker that counts just then must not see that, nor we.
 */
TEST_F_TIMEOUT(list_lru, freed_meanwhile, 300)
{
	char parent[] = "verify_list_lru", child[] = "verify_list_lru/child";
	char path[PATH_MAX];
	long long before;
	int delay, i;

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	if (!group_root())
		SKIP(return, "needs the memory controller");

	ASSERT_EQ(0, group_make(parent, 0));
	if (!group_is_v1()) {
		group_path(path, parent, "cgroup.subtree_control");
		ASSERT_EQ(0, write_file(path, "+memory"));
	}
	snprintf(path, sizeof(path), "%s/%s", mnt, parent);
	ASSERT_EQ(0, mkdir(path, 0700));
	ASSERT_EQ(0, group_with_dentries(child, 300));
	ASSERT_EQ(0, verify_and_read());
	ASSERT_EQ(0, violations()) TH_LOG("%s", line);

	delay = delay_open();
	ASSERT_LE(0, delay);
	before = delay_entered(delay, "reparent");
	ASSERT_EQ(0, delay_write(delay, "reparent 1000000 all"));
	ASSERT_EQ(0, group_remove(child));
	/* Taking it offline is left to a worker. */
	for (i = 0; i < 1000 && delay_entered(delay, "reparent") == before; i++)
		usleep(10000);
	EXPECT_LT(before, delay_entered(delay, "reparent"));
	ASSERT_EQ(0, delay_write(delay, "reparent 0"));
	drop_dir(child);

	ASSERT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
	close(delay);
	EXPECT_EQ(0, group_remove(parent));
	drop_dir(parent);
}

static void load_groups(void)
{
	static unsigned int n;
	char group[64];

	snprintf(group, sizeof(group), "churn.%d.%u", getpid(), n++ % 4);
	if (group_with_dentries(group, 100))
		_exit(1);
	group_remove(group);
	drop_dir(group);
}

static void load_caches(void)
{
	write_file("/proc/sys/vm/drop_caches", "2");
	usleep(20000);
}

/*
 * Dentries are freed and shrunk while their groups go: what the verifier sees is
 * what a shrinker's count would see.
 */
TEST_F_TIMEOUT(list_lru, churn, 600)
{
	struct workers workers = {};
	unsigned int runs = 0, wrong = 0;
	time_t end;
	int i;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!group_root())
		SKIP(return, "needs the memory controller");

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, worker_start(&workers, load_groups));
	ASSERT_EQ(0, worker_start(&workers, load_caches));
	end = time(NULL) + LOAD_SECONDS;
	while (time(NULL) < end) {
		ASSERT_EQ(0, verify_and_read());
		if (violations()) {
			if (!wrong++)
				TH_LOG("%s", line);
		}
		runs++;
	}
	EXPECT_EQ(0, workers_end(&workers));
	TH_LOG("%u runs, %u with violations", runs, wrong);
	EXPECT_EQ(0, wrong);
	sleep(1);
	ASSERT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
}

FIXTURE(inject) {
};

FIXTURE_VARIANT(inject) {
	const char *finding;
	bool group;
};

FIXTURE_VARIANT_ADD(inject, nr_items) {
	.finding = "nr_items",
};

FIXTURE_VARIANT_ADD(inject, node_items) {
	.finding = "node_items",
};

FIXTURE_VARIANT_ADD(inject, owner) {
	.finding = "owner", .group = true,
};

FIXTURE_VARIANT_ADD(inject, links) {
	.finding = "links",
};

FIXTURE_SETUP(inject)
{
	if (!inject_present())
		return;
	ASSERT_EQ(0, disk_open());
}

FIXTURE_TEARDOWN(inject)
{
	if (inject_present())
		disk_close();
}

TEST_F_TIMEOUT(inject, caught_and_undone, 300)
{
	char want[64];

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	if (variant->group && !group_root())
		SKIP(return, "needs the memory controller");

	dentries(mnt, 100);
	ASSERT_EQ(0, variant->group ?
		     group_with_dentries("verify_list_lru", 20) : 0);

	EXPECT_EQ(0, verify_inject(VERIFIER, variant->finding));
	EXPECT_EQ(0, verify_line(VERIFIER, line, sizeof(line)));
	snprintf(want, sizeof(want), " injected=%s:caught", variant->finding);
	EXPECT_NE(NULL, strstr(line, want)) TH_LOG("%s", line);
	EXPECT_EQ(1, violations()) TH_LOG("%s", line);

	EXPECT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
	EXPECT_EQ(NULL, strstr(line, "injected=")) TH_LOG("%s", line);
	if (variant->group) {
		EXPECT_EQ(0, group_remove("verify_list_lru"));
		drop_dir("verify_list_lru");
	}
}

TEST_HARNESS_MAIN
