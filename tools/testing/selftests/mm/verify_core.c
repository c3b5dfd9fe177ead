// SPDX-License-Identifier: GPL-2.0
/* mm_verify/ in debugfs: what it accepts, what it refuses, what it reports. */
#include <sys/stat.h>

#include "../kselftest_harness.h"
#include "mm_verify.h"

static char before[16384], after[16384];

FIXTURE(verify_core) {
};

FIXTURE_SETUP(verify_core)
{
}

FIXTURE_TEARDOWN(verify_core)
{
	write_file(VERIFY_DIR "interval_ms", "0");
}

static long long runs_of_all(void)
{
	static char report[16384];
	long long runs = 0;
	char *at = report;

	if (read_file(VERIFY_DIR "report", report, sizeof(report)) < 0)
		return -1;
	while ((at = strstr(at, " runs=")))
		runs += strtoll(at += strlen(" runs="), NULL, 10);
	return runs;
}

static int verifiers(void)
{
	static char report[16384];
	int lines = 0;
	char *at;

	if (read_file(VERIFY_DIR "report", report, sizeof(report)) < 0)
		return -1;
	for (at = report; *at; at++)
		lines += *at == '\n';
	return lines;
}

TEST_F(verify_core, run_refuses_unknown)
{
	static const char long_name[] =
		"a_name_that_is_longer_than_any_that_a_verifier_could_ever_have_had";

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_LE(0, read_file(VERIFY_DIR "report", before, sizeof(before)));
	EXPECT_EQ(-EINVAL, verify_run("nonsense"));
	EXPECT_EQ(-EINVAL, verify_run(" "));
	EXPECT_EQ(-EINVAL, verify_run(long_name));
	ASSERT_LE(0, read_file(VERIFY_DIR "report", after, sizeof(after)));
	EXPECT_STREQ(before, after);
}

TEST_F(verify_core, inject_refuses_unknown)
{
	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	ASSERT_LE(0, read_file(VERIFY_DIR "report", before, sizeof(before)));
	EXPECT_EQ(-EINVAL, verify_inject("nonsense", "type"));
	EXPECT_EQ(-EINVAL, verify_inject("free_lists", "nonsense"));
	EXPECT_EQ(-EINVAL, verify_inject("free_lists", ""));
	EXPECT_EQ(-EINVAL, write_file(VERIFY_DIR "inject", "free_lists"));
	ASSERT_LE(0, read_file(VERIFY_DIR "report", after, sizeof(after)));
	EXPECT_STREQ(before, after);
}

TEST_F(verify_core, delay_words)
{
	int fd, other;
	long long entered;

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	fd = delay_open();
	other = delay_open();
	ASSERT_LE(0, fd);
	ASSERT_LE(0, other);
	entered = delay_entered(fd, "rmap_stat");
	EXPECT_LE(0, entered);
	EXPECT_EQ(-EINVAL, delay_write(fd, "nonsense 1"));
	EXPECT_EQ(-EINVAL, delay_write(fd, ""));
	EXPECT_EQ(-EINVAL, delay_write(fd, "rmap_stat"));
	EXPECT_EQ(-EINVAL, delay_write(fd, "rmap_stat many"));
	EXPECT_EQ(-EINVAL, delay_write(fd, "rmap_stat -1"));
	EXPECT_EQ(-EINVAL, delay_write(fd, "rmap_stat 1000001"));
	EXPECT_EQ(-EINVAL, delay_write(fd, "rmap_stat 1 some"));
	EXPECT_EQ(-EINVAL, delay_write(fd, "rmap_stat 1 all 2"));

	/* One test at a time, until it closes the file or takes it back. */
	EXPECT_EQ(0, delay_write(fd, "rmap_stat 1"));
	EXPECT_EQ(-EBUSY, delay_write(other, "rmap_stat 2"));
	EXPECT_EQ(0, delay_write(fd, "rmap_stat 0"));
	EXPECT_EQ(0, delay_write(other, "rmap_stat 2"));
	EXPECT_EQ(0, close(other));
	EXPECT_EQ(0, delay_write(fd, "rmap_stat 1 all"));
	EXPECT_EQ(0, close(fd));
	fd = delay_open();
	ASSERT_LE(0, read_file(VERIFY_DIR "delay", after, sizeof(after)));
	EXPECT_NE(NULL, strstr(after, "rmap_stat 0 "));
	close(fd);
}

TEST_F(verify_core, root_only)
{
	static const struct {
		const char *file;
		mode_t mode;
	} files[] = {
		{ VERIFY_DIR "run", 0600 },
		{ VERIFY_DIR "report", 0400 },
		{ VERIFY_DIR "interval_ms", 0600 },
		{ VERIFY_DIR "max_hold", 0600 },
	};
	struct stat st;
	unsigned int i;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		ASSERT_EQ(0, stat(files[i].file, &st));
		EXPECT_EQ(files[i].mode, st.st_mode & 07777)
			TH_LOG("%s", files[i].file);
		EXPECT_EQ(0, st.st_uid);
	}
}

/* Every name that reading run gives can be run, and has its line. */
TEST_F(verify_core, run_lists_names)
{
	char line[2048], *name, *save;
	int names = 0;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_LT(0, read_file(VERIFY_DIR "run", before, sizeof(before)));
	for (name = strtok_r(before, "\n", &save); name;
	     name = strtok_r(NULL, "\n", &save)) {
		EXPECT_EQ(0, verify_run(name)) TH_LOG("%s", name);
		if (!strcmp(name, "all"))
			continue;
		names++;
		EXPECT_EQ(0, verify_line(name, line, sizeof(line)))
			TH_LOG("%s", name);
	}
	EXPECT_LT(0, names);
	EXPECT_EQ(verifiers(), names);
}

TEST_F(verify_core, all_runs_each_once)
{
	long long runs = runs_of_all();

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_LE(0, runs);
	ASSERT_EQ(0, verify_run("all\n"));
	EXPECT_EQ(runs + verifiers(), runs_of_all());
}

TEST_F(verify_core, report_format)
{
	unsigned long long checked, violations, ns;
	char *line, *save, name[32];
	int fields;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_EQ(0, verify_run("all"));
	ASSERT_LT(0, read_file(VERIFY_DIR "report", before, sizeof(before)));
	for (line = strtok_r(before, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		fields = sscanf(line, "%31s %llu %llu %llu", name, &checked,
				&violations, &ns);
		ASSERT_EQ(4, fields) TH_LOG("%s", line);
		EXPECT_LT(0, checked) TH_LOG("%s", line);
		EXPECT_LT(0, ns) TH_LOG("%s", line);
		EXPECT_LT(0, verify_number(line, "runs")) TH_LOG("%s", line);
		EXPECT_LE(0, verify_number(line, "total")) TH_LOG("%s", line);
	}
}

TEST_F_TIMEOUT(verify_core, interval_runs_and_stops, 300)
{
	long long start = runs_of_all(), now = start;
	char text[32];
	int i;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	EXPECT_EQ(-EINVAL, write_file(VERIFY_DIR "interval_ms", "3600001"));
	ASSERT_LT(0, read_file(VERIFY_DIR "interval_ms", text, sizeof(text)));
	EXPECT_STREQ("0\n", text);

	ASSERT_EQ(0, write_file(VERIFY_DIR "interval_ms", "20"));
	for (i = 0; i < 100 * test_scale() && now < start + 3 * verifiers(); i++) {
		usleep(100000);
		now = runs_of_all();
	}
	EXPECT_LE(start + 3 * verifiers(), now);

	ASSERT_EQ(0, write_file(VERIFY_DIR "interval_ms", "0"));
	now = runs_of_all();
	usleep(500000);
	EXPECT_EQ(now, runs_of_all());
}

TEST_HARNESS_MAIN
