/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KUnit tests of the verifiers' core, included by core.c. The verifiers here
 * have names that no real one has, and are gone when their test ends.
 */
#ifdef CONFIG_MM_VERIFY_KUNIT_TEST

#ifndef _MM_VERIFY_CORE_TEST_H
#define _MM_VERIFY_CORE_TEST_H

#include <kunit/test.h>

enum { FAKE_BIG, FAKE_SMALL, FAKE_NR };

static const char * const fake_findings[] = { "big", "small" };
static const char * const fake_figures[] = { "weight" };

/* What the fake structure holds, and what its verifier answers. */
static struct {
	unsigned int big;
	unsigned int small;
	bool can_plant;
	bool blind;
	int ret;
	int object;
} fake;

static int fake_verify(struct mm_verify_run *run)
{
	unsigned int i;

	run->checked = 10;
	run->figures[0] = 7;
	if (fake.can_plant && run->inject != MM_VERIFY_NO_INJECTION) {
		run->planted = &fake.object;
		if (!fake.blind)
			mm_verify_found(run, run->inject, &fake.object,
					"planted one");
	}
	for (i = 0; i < fake.big; i++)
		mm_verify_found(run, FAKE_BIG, &fake, "number %u", i);
	for (i = 0; i < fake.small; i++)
		mm_verify_found(run, FAKE_SMALL, &fake, "number %u", i);
	return fake.ret;
}

static struct mm_verifier fake_verifier;

static int mm_verify_test_init(struct kunit *test)
{
	memset(&fake, 0, sizeof(fake));
	fake.can_plant = true;
	fake_verifier = (struct mm_verifier) {
		.name = "kunit_fake",
		.findings = fake_findings,
		.nr_findings = FAKE_NR,
		.figures = fake_figures,
		.nr_figures = 1,
		.verify = fake_verify,
		/* Nobody is to take what is found here for a violation. */
		.printed = ~0UL,
	};
	return mm_verify_register(&fake_verifier);
}

static void mm_verify_test_exit(struct kunit *test)
{
	mm_verify_unregister(&fake_verifier);
}

static int inject(const char *words)
{
	char copy[64];

	strscpy(copy, words, sizeof(copy));
	return mm_verify_inject_named(copy);
}

static const char *line_of(struct kunit *test, struct mm_verifier *v)
{
	char *line = kunit_kzalloc(test, MM_VERIFY_LINE_LEN, GFP_KERNEL);
	struct seq_buf s;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, line);
	seq_buf_init(&s, line, MM_VERIFY_LINE_LEN - 1);
	/* The time is not ours to foresee. */
	v->ns = 5;
	mm_verify_line(v, &s);
	KUNIT_EXPECT_FALSE(test, seq_buf_has_overflowed(&s));
	return line;
}

static void mm_verify_test_names(struct kunit *test)
{
	struct mm_verifier v = { .verify = fake_verify };

	KUNIT_EXPECT_EQ(test, -EINVAL, mm_verify_register(&v));
	v.name = "all";
	KUNIT_EXPECT_EQ(test, -EINVAL, mm_verify_register(&v));
	v.name = "two words";
	KUNIT_EXPECT_EQ(test, -EINVAL, mm_verify_register(&v));
	v.name = "a_name_longer_than_a_column";
	KUNIT_EXPECT_EQ(test, -EINVAL, mm_verify_register(&v));
	v.name = "kunit_fake";
	KUNIT_EXPECT_EQ(test, -EEXIST, mm_verify_register(&v));
	v.name = "kunit_other";
	v.nr_findings = MM_VERIFY_MAX_FINDINGS + 1;
	KUNIT_EXPECT_EQ(test, -EINVAL, mm_verify_register(&v));
	v.nr_findings = 0;
	v.verify = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, mm_verify_register(&v));

	KUNIT_EXPECT_EQ(test, -EINVAL, mm_verify_run_named("kunit_other"));
	KUNIT_EXPECT_EQ(test, -EINVAL, mm_verify_run_named(""));
	KUNIT_EXPECT_EQ(test, -EINVAL, inject("kunit_fake"));
	KUNIT_EXPECT_EQ(test, -EINVAL, inject("kunit_fake huge"));
	KUNIT_EXPECT_EQ(test, -EINVAL, inject("kunit_other big"));
	KUNIT_EXPECT_EQ(test, 0ULL, fake_verifier.runs);
}

static void mm_verify_test_counts(struct kunit *test)
{
	KUNIT_EXPECT_STREQ(test, line_of(test, &fake_verifier),
			   "kunit_fake 0 0 5 runs=0 total=0 big=0/0 small=0/0 weight=0");

	fake.big = 3;
	fake.small = 1;
	KUNIT_EXPECT_EQ(test, 0, mm_verify_run_named("kunit_fake"));
	KUNIT_EXPECT_STREQ(test, line_of(test, &fake_verifier),
			   "kunit_fake 10 4 5 runs=1 total=4 big=3/3 small=1/1 weight=7");

	fake.big = 0;
	KUNIT_EXPECT_EQ(test, 0, mm_verify_run_named("kunit_fake"));
	KUNIT_EXPECT_STREQ(test, line_of(test, &fake_verifier),
			   "kunit_fake 10 1 5 runs=2 total=5 big=0/3 small=1/2 weight=7");
}

/* A walk that was not finished must not pass for one that found nothing. */
static void mm_verify_test_unfinished(struct kunit *test)
{
	fake.big = 2;
	KUNIT_EXPECT_EQ(test, 0, mm_verify_run_named("kunit_fake"));
	fake.big = 0;
	fake.ret = -EINTR;
	KUNIT_EXPECT_EQ(test, -EINTR, mm_verify_run_named("kunit_fake"));
	KUNIT_EXPECT_EQ(test, 1ULL, fake_verifier.runs);
	KUNIT_EXPECT_EQ(test, 2ULL, fake_verifier.found[FAKE_BIG]);
}

static void mm_verify_test_inject(struct kunit *test)
{
	fake.big = 1;
	KUNIT_EXPECT_EQ(test, 0, inject("kunit_fake small"));
	KUNIT_EXPECT_STREQ(test, line_of(test, &fake_verifier),
			   "kunit_fake 10 2 5 runs=0 total=0 big=1/0 small=1/0 weight=7 injected=small:caught");

	/* Found, but under another name or on another object: missed. */
	fake.blind = true;
	fake.small = 1;
	KUNIT_EXPECT_EQ(test, 0, inject("kunit_fake small"));
	KUNIT_EXPECT_STREQ(test, line_of(test, &fake_verifier),
			   "kunit_fake 10 2 5 runs=0 total=0 big=1/0 small=1/0 weight=7 injected=small:missed");

	/* Nothing to plant it on: no result at all. */
	fake.can_plant = false;
	fake.big = 9;
	KUNIT_EXPECT_EQ(test, -EAGAIN, inject("kunit_fake small"));
	KUNIT_EXPECT_EQ(test, 1ULL, fake_verifier.found[FAKE_BIG]);

	/* The next run says nothing of injections. */
	KUNIT_EXPECT_EQ(test, 0, mm_verify_run_named("kunit_fake"));
	KUNIT_EXPECT_EQ(test, MM_VERIFY_NO_INJECTION, fake_verifier.injected);
}

/* Counted each time, noted once; a note fits its room. */
static void mm_verify_test_notes(struct kunit *test)
{
	static struct mm_verify_run run;

	fake_verifier.printed = 0;
	run.verifier = &fake_verifier;
	run.inject = MM_VERIFY_NO_INJECTION;
	mm_verify_found(&run, FAKE_BIG, &fake, "first");
	mm_verify_found(&run, FAKE_BIG, &fake, "second");
	KUNIT_EXPECT_EQ(test, 2ULL, run.found[FAKE_BIG]);
	KUNIT_EXPECT_EQ(test, BIT(FAKE_BIG), run.noted);
	KUNIT_EXPECT_STREQ(test, "first", run.note[FAKE_BIG]);

	run.noted = 0;
	mm_verify_found(&run, FAKE_BIG, &fake, "third");
	KUNIT_EXPECT_EQ(test, 3ULL, run.found[FAKE_BIG]);
	KUNIT_EXPECT_EQ(test, 0UL, run.noted);

	mm_verify_found(&run, FAKE_SMALL, &fake, "%*c", 2 * MM_VERIFY_NOTE_LEN,
			'x');
	KUNIT_EXPECT_EQ(test, (size_t)MM_VERIFY_NOTE_LEN - 1,
			strlen(run.note[FAKE_SMALL]));
}

/* A planted object does not use up the one print of a real violation. */
static void mm_verify_test_notes_injected(struct kunit *test)
{
	static struct mm_verify_run run;

	fake_verifier.printed = 0;
	run.verifier = &fake_verifier;
	run.inject = FAKE_BIG;
	run.planted = &fake.object;
	mm_verify_found(&run, FAKE_BIG, &fake, "real");
	mm_verify_found(&run, FAKE_BIG, &fake.object, "planted");
	KUNIT_EXPECT_TRUE(test, run.caught);
	KUNIT_EXPECT_STREQ(test, "planted", run.note[FAKE_BIG]);
	KUNIT_EXPECT_EQ(test, 0UL, fake_verifier.printed & BIT(FAKE_BIG));
}

static struct kunit_case mm_verify_test_cases[] = {
	KUNIT_CASE(mm_verify_test_names),
	KUNIT_CASE(mm_verify_test_counts),
	KUNIT_CASE(mm_verify_test_unfinished),
	KUNIT_CASE(mm_verify_test_inject),
	KUNIT_CASE(mm_verify_test_notes),
	KUNIT_CASE(mm_verify_test_notes_injected),
	{},
};

static struct kunit_suite mm_verify_test_suite = {
	.name = "mm_verify",
	.init = mm_verify_test_init,
	.exit = mm_verify_test_exit,
	.test_cases = mm_verify_test_cases,
};

kunit_test_suite(mm_verify_test_suite);

#endif /* _MM_VERIFY_CORE_TEST_H */

#endif /* CONFIG_MM_VERIFY_KUNIT_TEST */
