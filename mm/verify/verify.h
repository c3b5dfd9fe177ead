/* SPDX-License-Identifier: GPL-2.0 */
/*
 * On-demand verifiers of mm structures: what a verifier sees of the core.
 * See Documentation/mm/verify.rst.
 */
#ifndef _MM_VERIFY_H
#define _MM_VERIFY_H

#include <linux/compiler_attributes.h>
#include <linux/kconfig.h>
#include <linux/list.h>
#include <linux/types.h>

#define MM_VERIFY_MAX_FINDINGS	16
#define MM_VERIFY_MAX_FIGURES	8
#define MM_VERIFY_NOTE_LEN	640
#define MM_VERIFY_NO_INJECTION	(-1)

struct mm_verifier;

/**
 * struct mm_verify_run - one run of one verifier
 * @verifier: whose run it is
 * @inject: the finding to plant, or MM_VERIFY_NO_INJECTION
 * @planted: the object that the verifier spoilt; NULL until it did
 * @caught: the planted object was found, under the planted name
 * @checked: objects that were compared
 * @found: violations of each finding
 * @figures: what else the verifier tells, in the units its names say
 * @noted: the findings that have a note waiting to be printed
 * @note: the text that describes the first violation of each finding
 */
struct mm_verify_run {
	struct mm_verifier *verifier;
	int inject;
	const void *planted;
	bool caught;
	u64 checked;
	u64 found[MM_VERIFY_MAX_FINDINGS];
	u64 figures[MM_VERIFY_MAX_FIGURES];
	unsigned long noted;
	char note[MM_VERIFY_MAX_FINDINGS][MM_VERIFY_NOTE_LEN];
};

/**
 * struct mm_verifier - a structure, and how to compare it with the truth
 * @name: what is written to run and stands first in report
 * @findings: names of what can be wrong, in the order of their numbers; with
 *	DEBUG_VM_VERIFY_INJECT each can be planted
 * @nr_findings: at most MM_VERIFY_MAX_FINDINGS
 * @figures: names of the figures reported besides violations
 * @nr_figures: at most MM_VERIFY_MAX_FIGURES
 * @verify: walk the structure once; called in process context without locks
 *	but the core's.  Returns 0, or a negative error when the walk could
 *	not be finished: such a run is not recorded.
 *
 * The rest belongs to the core, under its lock: the result of the last
 * recorded run, and sums over all runs without an injection.
 */
struct mm_verifier {
	const char *name;
	const char * const *findings;
	unsigned int nr_findings;
	const char * const *figures;
	unsigned int nr_figures;
	int (*verify)(struct mm_verify_run *run);

	/* private: */
	struct list_head list;
	unsigned long printed;
	u64 checked;
	u64 found[MM_VERIFY_MAX_FINDINGS];
	u64 figure[MM_VERIFY_MAX_FIGURES];
	u64 ns;
	u64 runs;
	u64 total[MM_VERIFY_MAX_FINDINGS];
	int injected;
	bool caught;
};

extern unsigned long mm_verify_max_hold;

int mm_verify_register(struct mm_verifier *verifier);
void mm_verify_unregister(struct mm_verifier *verifier);

__printf(4, 5)
void mm_verify_found(struct mm_verify_run *run, unsigned int finding,
		     const void *object, const char *fmt, ...);
int mm_verify_pause(struct mm_verify_run *run);
bool mm_verify_linked(struct list_head *pos);

/**
 * mm_verify_injecting - is this the run that plants that finding?
 * @run: the run
 * @finding: the finding
 *
 * Constant false without CONFIG_DEBUG_VM_VERIFY_INJECT.
 */
static inline bool mm_verify_injecting(const struct mm_verify_run *run,
				       unsigned int finding)
{
	return IS_ENABLED(CONFIG_DEBUG_VM_VERIFY_INJECT) &&
	       run->inject == (int)finding;
}

#endif /* _MM_VERIFY_H */
