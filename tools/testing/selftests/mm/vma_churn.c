// SPDX-License-Identifier: GPL-2.0
/*
 * VMAs that come and go as a compiler's do: some sixty of them, most of three
 * pages, split into two and one, joined again and unmapped, at places that make
 * the tree's nodes fill, split and empty. After every step, /proc/self/maps is
 * compared with a model of the address space, page by page; and the pages'
 * contents, and what the vma verifier says, now and then.
 */
#include "../kselftest_harness.h"
#include "vma_ops.h"

#define PAGES		240
#define STEPS		4000

/* What the model knows of a page; pages that are alike are one VMA. */
struct page {
	bool mapped;
	bool write;
	/* A private mapping is charged when it first becomes writable. */
	bool charged;
	bool locked;
	char content;
};

static struct page model[PAGES];

static bool alike(const struct page *a, const struct page *b)
{
	return a->mapped == b->mapped && a->write == b->write &&
	       a->charged == b->charged && a->locked == b->locked;
}

/* The model's VMAs, as /proc/self/maps has them. Returns their number. */
static int model_vmas(struct vma_line *lines, bool merged)
{
	int i, nr = 0;

	for (i = 0; i < PAGES; i++) {
		unsigned long at = (unsigned long)AREA + i * PG;

		if (!model[i].mapped)
			continue;
		if (i && merged && alike(&model[i - 1], &model[i])) {
			lines[nr - 1].end = at + PG;
			continue;
		}
		lines[nr].start = at;
		lines[nr].end = at + PG;
		snprintf(lines[nr].perms, sizeof(lines[nr].perms), "r%c-p",
			 model[i].write ? 'w' : '-');
		nr++;
	}
	return nr;
}

/* Every page of the area is mapped as the model has it. */
static bool pages_agree(const struct vma_line *lines, int nr)
{
	int i, at = 0;

	for (i = 0; i < PAGES; i++) {
		unsigned long addr = (unsigned long)AREA + i * PG;

		while (at < nr && lines[at].end <= addr)
			at++;
		if (model[i].mapped != (at < nr && lines[at].start <= addr))
			return false;
		if (model[i].mapped &&
		    (lines[at].perms[1] == 'w') != model[i].write)
			return false;
	}
	return true;
}

static bool contents_agree(void)
{
	int i;

	for (i = 0; i < PAGES; i++)
		if (model[i].mapped && AREA[i * PG] != model[i].content)
			return false;
	return true;
}

/* The first page from one on that is in the state, or PAGES. */
static int find(int from, bool mapped)
{
	int i;

	for (i = 0; i < PAGES; i++)
		if (model[(from + i) % PAGES].mapped == mapped)
			return (from + i) % PAGES;
	return PAGES;
}

static int run_of(int from, bool mapped, int max)
{
	int len = 0;

	while (len < max && from + len < PAGES &&
	       model[from + len].mapped == mapped)
		len++;
	return len;
}

FIXTURE(churn) {
	unsigned int seed;
};

FIXTURE_VARIANT(churn) {
	/* With pages VMAs have anon_vmas, and some stay apart. */
	bool touched;
	unsigned int seed;
};

FIXTURE_VARIANT_ADD(churn, empty) {
	.touched = false,
	.seed = 2022,
};

FIXTURE_VARIANT_ADD(churn, touched) {
	.touched = true,
	.seed = 1807,
};

FIXTURE_SETUP(churn)
{
	self->seed = variant->seed;
	memset(model, 0, sizeof(model));
}

FIXTURE_TEARDOWN(churn)
{
	munmap(AREA, PAGES * PG);
}

static bool step_map(unsigned int *seed, bool touched)
{
	int at = find(rand_r(seed) % PAGES, false), len, i;
	bool write = rand_r(seed) % 3;

	if (at == PAGES)
		return true;
	len = run_of(at, false, 3);
	if (!map_at(at, len, PROT_READ | (write ? PROT_WRITE : 0)))
		return false;
	for (i = at; i < at + len; i++) {
		model[i] = (struct page) {
			.mapped = true, .write = write, .charged = write,
		};
		if (touched && write) {
			model[i].content = 1 + rand_r(seed) % 100;
			AREA[i * PG] = model[i].content;
		}
	}
	return true;
}

/* The last page of some VMA, or some in the middle: two and one. */
static bool step_unmap(unsigned int *seed)
{
	int at = find(rand_r(seed) % PAGES, true), len, i;

	if (at == PAGES)
		return true;
	len = rand_r(seed) % 16 ? 1 + rand_r(seed) % 2 : 12;
	if (at + len > PAGES)
		len = PAGES - at;
	if (munmap(AREA + at * PG, len * PG))
		return false;
	for (i = at; i < at + len; i++)
		model[i] = (struct page) {};
	return true;
}

static bool step_protect(unsigned int *seed)
{
	int at = find(rand_r(seed) % PAGES, true), len, i;
	bool write = rand_r(seed) % 2;

	if (at == PAGES)
		return true;
	len = run_of(at, true, 1 + rand_r(seed) % 4);
	if (protect(at, len, PROT_READ | (write ? PROT_WRITE : 0)))
		return false;
	for (i = at; i < at + len; i++) {
		model[i].write = write;
		model[i].charged |= write;
	}
	return true;
}

static bool step_lock(unsigned int *seed)
{
	int at = find(rand_r(seed) % PAGES, true), len, i;
	bool lock = rand_r(seed) % 2;

	if (at == PAGES)
		return true;
	len = run_of(at, true, 1 + rand_r(seed) % 2);
	if (lock ? mlock2(AREA + at * PG, len * PG, MLOCK_ONFAULT) :
		   munlock(AREA + at * PG, len * PG))
		return false;
	for (i = at; i < at + len; i++)
		model[i].locked = lock;
	return true;
}

/* From some place to a hole elsewhere. */
static bool step_move(unsigned int *seed)
{
	int from = find(rand_r(seed) % PAGES, true), to, len, i;

	to = find(rand_r(seed) % PAGES, false);
	if (from == PAGES || to == PAGES)
		return true;
	len = run_of(from, true, run_of(to, false, 3));
	for (i = 1; i < len; i++)
		if (!alike(&model[from], &model[from + i]))
			len = i;
	/* VMAs with pages may be two where the model has one. */
	len = 1;
	if (mremap(AREA + from * PG, len * PG, len * PG,
		   MREMAP_MAYMOVE | MREMAP_FIXED, AREA + to * PG) !=
	    AREA + to * PG)
		return false;
	for (i = 0; i < len; i++) {
		model[to + i] = model[from + i];
		model[from + i] = (struct page) {};
	}
	return true;
}

TEST_F_TIMEOUT(churn, follows_model, 600)
{
	static struct vma_line want[PAGES], got[PAGES];
	int nr_want, nr_got, step, i, most = 0;
	static char report[2048];
	bool ok;

	for (step = 0; step < STEPS; step++) {
		unsigned int what = rand_r(&self->seed) % 16;

		/* About sixty: more come than go until there are. */
		nr_want = model_vmas(want, true);
		if (what < 5 && nr_want > 75)
			what = 5;
		if (what < 5)
			ok = step_map(&self->seed, variant->touched);
		else if (what < 9)
			ok = step_unmap(&self->seed);
		else if (what < 13)
			ok = step_protect(&self->seed);
		else if (what < 15)
			ok = step_lock(&self->seed);
		else
			ok = step_move(&self->seed);
		ASSERT_TRUE(ok) TH_LOG("step %d, what %u", step, what);

		nr_got = vmas_in(AREA, AREA + PAGES * PG, got, PAGES);
		nr_want = model_vmas(want, true);
		if (nr_got > most)
			most = nr_got;
		ASSERT_TRUE(pages_agree(got, nr_got))
			TH_LOG("step %d, what %u: %s", step, what, shape());
		/* What has moved has kept its offset and stays apart. */
		ASSERT_LE(nr_want, nr_got)
			TH_LOG("step %d, what %u: %s", step, what, shape());
		for (i = 1; i < nr_got; i++)
			ASSERT_LE(got[i - 1].end, got[i].start);
		if (step % 64)
			continue;
		ASSERT_TRUE(contents_agree()) TH_LOG("step %d", step);
		if (verify_present() && !verify_run("vma")) {
			ASSERT_EQ(0, verify_line("vma", report,
						 sizeof(report)));
			ASSERT_EQ(0, strncmp(strchr(strchr(report, ' ') + 1,
						    ' '), " 0 ", 3))
				TH_LOG("step %d: %s", step, report);
		}
	}
	TH_LOG("%d steps, at most %d VMAs", step, most);
	EXPECT_LT(50, most);
}

/* Untouched and never moved, VMAs that are alike are one: line by line. */
TEST_F_TIMEOUT(churn, merges_all, 600)
{
	static struct vma_line want[PAGES], got[PAGES];
	int nr_want, nr_got, step, i;
	bool ok;

	if (variant->touched)
		SKIP(return, "for VMAs without pages");
	for (step = 0; step < STEPS; step++) {
		unsigned int what = rand_r(&self->seed) % 15;

		nr_want = model_vmas(want, true);
		if (what < 5 && nr_want > 75)
			what = 5;
		if (what < 5)
			ok = step_map(&self->seed, false);
		else if (what < 9)
			ok = step_unmap(&self->seed);
		else if (what < 13)
			ok = step_protect(&self->seed);
		else
			ok = step_lock(&self->seed);
		ASSERT_TRUE(ok) TH_LOG("step %d, what %u", step, what);

		nr_want = model_vmas(want, true);
		nr_got = vmas_in(AREA, AREA + PAGES * PG, got, PAGES);
		ASSERT_EQ(nr_want, nr_got)
			TH_LOG("step %d, what %u: %s", step, what, shape());
		for (i = 0; i < nr_want; i++) {
			ASSERT_EQ(want[i].start, got[i].start);
			ASSERT_EQ(want[i].end, got[i].end);
			ASSERT_STREQ(want[i].perms, got[i].perms);
		}
	}
}

TEST_HARNESS_MAIN
