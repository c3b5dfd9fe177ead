/* SPDX-License-Identifier: GPL-2.0 */
/* Between the vma verifier and its injections. */
#ifndef _MM_VERIFY_VMA_H
#define _MM_VERIFY_VMA_H

#include <linux/mm_types.h>

#include "verify.h"

enum vma_finding {
	VMA_RANGE,		/* tree entry's range is not the VMA's */
	VMA_TWICE,		/* VMA in the tree at a second place */
	VMA_MM,			/* vm_mm is another mm */
	VMA_COUNT,		/* map_count is not the number of entries */
	VMA_TOTAL,		/* total_vm is not the sum of their pages */
	VMA_LOCKED_PAGES,	/* locked_vm less than pages of locked VMAs */
	VMA_ANON_CHAIN,		/* anon_vma and anon_vma_chain do not agree */
	VMA_ANON_TREE,		/* not in the interval tree of an anon_vma */
	VMA_I_MMAP,		/* not in the i_mmap of its file */
	VMA_NR_FINDINGS,
};

/**
 * struct vma_plant - what an injection changed, to be undone
 * @object: a VMA, mm or anon_vma_chain; NULL when nothing was planted
 * @other: the VMA whose entry was overwritten, or the anon_vma taken away
 * @start: where that entry starts
 * @last: its last index
 */
struct vma_plant {
	void *object;
	void *other;
	unsigned long start;
	unsigned long last;
};

#ifdef CONFIG_DEBUG_VM_VERIFY_INJECT
void vma_plant_mm(struct mm_verify_run *run, struct mm_struct *mm,
		  struct vma_plant *plant);
void vma_undo_mm(struct mm_verify_run *run, struct mm_struct *mm,
		 struct vma_plant *plant);
void vma_plant_anon(struct mm_verify_run *run, struct vm_area_struct *vma,
		    struct vma_plant *plant);
void vma_undo_anon(struct mm_verify_run *run, struct vm_area_struct *vma,
		   struct vma_plant *plant);
void vma_plant_file(struct mm_verify_run *run, struct vm_area_struct *vma,
		    struct vma_plant *plant);
void vma_undo_file(struct mm_verify_run *run, struct vm_area_struct *vma,
		   struct vma_plant *plant);
#else
static inline void vma_plant_mm(struct mm_verify_run *run,
				struct mm_struct *mm, struct vma_plant *plant)
{
}

static inline void vma_undo_mm(struct mm_verify_run *run, struct mm_struct *mm,
			       struct vma_plant *plant)
{
}

static inline void vma_plant_anon(struct mm_verify_run *run,
				  struct vm_area_struct *vma,
				  struct vma_plant *plant)
{
}

static inline void vma_undo_anon(struct mm_verify_run *run,
				 struct vm_area_struct *vma,
				 struct vma_plant *plant)
{
}

static inline void vma_plant_file(struct mm_verify_run *run,
				  struct vm_area_struct *vma,
				  struct vma_plant *plant)
{
}

static inline void vma_undo_file(struct mm_verify_run *run,
				 struct vm_area_struct *vma,
				 struct vma_plant *plant)
{
}
#endif

#endif /* _MM_VERIFY_VMA_H */
