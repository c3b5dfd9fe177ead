// SPDX-License-Identifier: GPL-2.0
/*
 * A huge page that is swapped out whole while it waits to be split, and the
 * split_queue verifier: no page stays on a queue that is not its memcg's, and no
 * queue loses count.
 */
#include <pthread.h>

#include "../kselftest_harness.h"
#include "lru_load.h"

#define VERIFIER	"split_queue"
#define GROUP		"thp_swapout"

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

static bool thp_present(void)
{
	return !access(THP, W_OK);
}

/* How long reclaim is held up before it puts the page into the swap cache. */
#define DELAY_US	500000

static char *map;
static int delay;
static long long before;

/* One page of the huge page goes, once reclaim has seen that it is mapped whole. */
static void *unmap_part(void *arg)
{
	int tries;

	for (tries = 0; tries < 500; tries++) {
		if (delay_entered(delay, "swap_add") != before) {
			madvise(map + 4096, 4096, MADV_DONTNEED);
			return NULL;
		}
		usleep(1000);
	}
	return (void *)1;
}

/*
 * A group's huge page is swapped out whole while it waits to be split. The child
 * says so and stays, for its swap entries keep the page from being dropped.
 * Exits with the number of the step that failed.
 */
static void swap_out_queued(int ready)
{
	pthread_t thread;
	void *late;
	int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (group_enter(GROUP))
		_exit(1);
	map = map_huge(THP_SIZE);
	delay = delay_open();
	if (!map || delay < 0)
		_exit(2);
	memset(map, 1, THP_SIZE);
	before = delay_entered(delay, "swap_add");
	if (delay_set(delay, "swap_add", DELAY_US) ||
	    pthread_create(&thread, NULL, unmap_part, NULL))
		_exit(3);
	if (madvise(map, THP_SIZE, MADV_PAGEOUT))
		_exit(4);
	pthread_join(thread, &late);
	if (late)
		_exit(5);
	close(delay);
	/* When it has been written, reclaim frees it. */
	for (i = 0; i < 10; i++) {
		usleep(50000);
		group_reclaim(GROUP);
	}
	if (write(ready, "", 1) != 1)
		_exit(6);
	pause();
}

FIXTURE(thp) {
	struct backed swap;
};

FIXTURE_SETUP(thp)
{
	self->swap.loop = -1;
	if (!inject_present() || !group_root() || !thp_present())
		return;
	write_file(THP, "always");
	ASSERT_EQ(0, swap_open(&self->swap, 64));
	ASSERT_EQ(0, group_make(GROUP, 0));
}

FIXTURE_TEARDOWN(thp)
{
	swap_close(&self->swap);
	if (group_root())
		group_remove(GROUP);
}

TEST_F_TIMEOUT(thp, swapped_out_queued, 120)
{
	long long whole, queued;
	int ready[2], status;
	pid_t pid;
	char c;

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	if (!group_root())
		SKIP(return, "needs the memory controller");
	if (!thp_present())
		SKIP(return, "needs transparent huge pages");

	ASSERT_EQ(0, verify_and_read());
	ASSERT_EQ(0, violations()) TH_LOG("%s", line);
	whole = vm_counter("thp_swpout");
	queued = vm_counter("thp_deferred_split_page");
	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	if (!pid) {
		close(ready[0]);
		swap_out_queued(ready[1]);
	}
	close(ready[1]);
	/* The end of the child is the end of the pipe. */
	if (read(ready[0], &c, 1) != 1) {
		waitpid(pid, &status, 0);
		ASSERT_EQ(0, status);
	}
	EXPECT_EQ(whole + 1, vm_counter("thp_swpout"));
	EXPECT_EQ(queued + 1, vm_counter("thp_deferred_split_page"));
	EXPECT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(ready[0]);
}

FIXTURE(inject) {
	char *map;
};

FIXTURE_VARIANT(inject) {
	const char *finding;
};

FIXTURE_VARIANT_ADD(inject, len) {
	.finding = "len",
};

FIXTURE_VARIANT_ADD(inject, owner) {
	.finding = "owner",
};

FIXTURE_VARIANT_ADD(inject, links) {
	.finding = "links",
};

FIXTURE_SETUP(inject)
{
	if (!inject_present() || !thp_present())
		return;
	write_file(THP, "always");
	self->map = map_huge(4 * THP_SIZE);
	ASSERT_NE(NULL, self->map);
	memset(self->map, 1, 4 * THP_SIZE);
	ASSERT_EQ(0, madvise(self->map + 4096, 4096, MADV_DONTNEED));
	ASSERT_EQ(0, madvise(self->map + THP_SIZE, 4096, MADV_DONTNEED));
}

FIXTURE_TEARDOWN(inject)
{
}

TEST_F_TIMEOUT(inject, caught_and_undone, 120)
{
	char want[64];

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	if (!thp_present())
		SKIP(return, "needs transparent huge pages");
	if (!group_root())
		SKIP(return, "needs the memory controller");

	EXPECT_EQ(0, verify_inject(VERIFIER, variant->finding));
	EXPECT_EQ(0, verify_line(VERIFIER, line, sizeof(line)));
	snprintf(want, sizeof(want), " injected=%s:caught", variant->finding);
	EXPECT_NE(NULL, strstr(line, want)) TH_LOG("%s", line);
	EXPECT_EQ(1, violations()) TH_LOG("%s", line);

	EXPECT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
	EXPECT_EQ(NULL, strstr(line, "injected=")) TH_LOG("%s", line);
}

TEST_HARNESS_MAIN
