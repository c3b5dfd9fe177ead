// SPDX-License-Identifier: GPL-2.0
/*
 * The vma verifier: it sees what it says it looks for, it looks at every VMA of
 * every process, and it finds nothing, idle and while VMAs come and go.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "vma_ops.h"

#define VERIFIER	"vma"
#define LOAD_RUNS	30
#define OURS		500

static const char * const findings[] = {
	"range", "twice", "vm_mm", "map_count", "total_vm", "locked_vm",
	"anon_chain", "anon_tree", "i_mmap",
};

static char line[2048];

static int verify_and_read(void)
{
	int ret = verify_run(VERIFIER);

	return ret ? ret : verify_line(VERIFIER, line, sizeof(line));
}

static void expect_clean(struct __test_metadata *_metadata)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(findings); i++)
		EXPECT_EQ(0, verify_number(line, findings[i])) TH_LOG("%s", line);
}

/* The number of objects checked stands behind the name. */
static long long checked(void)
{
	return strtoll(line + strlen(VERIFIER), NULL, 10);
}

FIXTURE(vma) {
};

FIXTURE_SETUP(vma)
{
}

FIXTURE_TEARDOWN(vma)
{
}

TEST_F_TIMEOUT(vma, idle, 300)
{
	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_EQ(0, verify_and_read());
	TH_LOG("%s", line);
	expect_clean(_metadata);
	EXPECT_LT(0, checked());
	EXPECT_LT(0, verify_number(line, "mms"));
	EXPECT_LT(0, verify_number(line, "files"));
	EXPECT_LT(0, verify_number(line, "chains"));
}

/* As many VMAs more as we have made; in a thread group, once. */
TEST_F_TIMEOUT(vma, counts_ours, 300)
{
	long long before, after;
	int i;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	ASSERT_EQ(0, verify_and_read());
	before = checked();
	ASSERT_TRUE(map_at(0, 2 * OURS, RW));
	for (i = 0; i < OURS; i++)
		ASSERT_EQ(0, protect(2 * i, 1, PROT_READ));
	ASSERT_EQ(0, verify_and_read());
	after = checked();
	/* Other processes may have come or gone. */
	EXPECT_LE(2 * OURS - 40, after - before);
	EXPECT_GE(2 * OURS + 40, after - before);
	expect_clean(_metadata);
}

static void churn(void)
{
	unsigned int seed = getpid(), page;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		page = rand_r(&seed) % 200;
		switch (rand_r(&seed) % 4) {
		case 0:
			if (mmap(AREA + page * PG, 3 * PG, RW, MAP_PRIVATE |
				 MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
				touch(page, 3);
			break;
		case 1:
			munmap(AREA + page * PG, PG);
			break;
		case 2:
			protect(page, 2, PROT_READ);
			break;
		case 3:
			if (!fork())
				_exit(0);
			wait(NULL);
			break;
		}
	}
}

TEST_F_TIMEOUT(vma, under_churn, 600)
{
	pid_t pids[4];
	unsigned int i;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);

	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i])
			churn();
	}
	for (i = 0; i < LOAD_RUNS; i++) {
		usleep(50000);
		ASSERT_EQ(0, verify_and_read());
		expect_clean(_metadata);
	}
	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	TH_LOG("%s", line);
}

/* Each finding, planted: found under its name, and gone afterwards. */
FIXTURE(inject) {
};

FIXTURE_VARIANT(inject) {
	const char *finding;
};

FIXTURE_VARIANT_ADD(inject, range) {
	.finding = "range",
};

FIXTURE_VARIANT_ADD(inject, twice) {
	.finding = "twice",
};

FIXTURE_VARIANT_ADD(inject, vm_mm) {
	.finding = "vm_mm",
};

FIXTURE_VARIANT_ADD(inject, map_count) {
	.finding = "map_count",
};

FIXTURE_VARIANT_ADD(inject, total_vm) {
	.finding = "total_vm",
};

FIXTURE_VARIANT_ADD(inject, locked_vm) {
	.finding = "locked_vm",
};

FIXTURE_VARIANT_ADD(inject, anon_chain) {
	.finding = "anon_chain",
};

FIXTURE_VARIANT_ADD(inject, anon_tree) {
	.finding = "anon_tree",
};

FIXTURE_VARIANT_ADD(inject, i_mmap) {
	.finding = "i_mmap",
};

FIXTURE_SETUP(inject)
{
}

FIXTURE_TEARDOWN(inject)
{
}

TEST_F_TIMEOUT(inject, caught_and_undone, 300)
{
	char want[64];

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);

	/* Something to plant each of them on. */
	ASSERT_TRUE(map_at(0, 4, RW));
	touch(0, 4);
	ASSERT_EQ(0, mlock(AREA, 2 * PG));

	ASSERT_EQ(0, verify_inject(VERIFIER, variant->finding));
	ASSERT_EQ(0, verify_line(VERIFIER, line, sizeof(line)));
	snprintf(want, sizeof(want), " injected=%s:caught", variant->finding);
	EXPECT_NE(NULL, strstr(line, want)) TH_LOG("%s", line);
	EXPECT_EQ(1, verify_number(line, variant->finding)) TH_LOG("%s", line);

	ASSERT_EQ(0, verify_and_read());
	expect_clean(_metadata);
	EXPECT_EQ(NULL, strstr(line, "injected=")) TH_LOG("%s", line);
}

TEST_HARNESS_MAIN
