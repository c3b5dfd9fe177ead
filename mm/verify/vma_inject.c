// SPDX-License-Identifier: GPL-2.0
/*
 * Injections of the vma verifier.
 *
 * Those of a tree entry are planted on VMAs that no rmap walk can come to, as
 * that would read them without mmap_lock: they have neither file nor anon_vma.
 * Every process has one, for what the kernel maps into it.  Those of an rmap
 * tree are planted and undone in one hold of that tree's lock for writing.
 */
#include <linux/mm.h>
#include <linux/rmap.h>

#include "../internal.h"
#include "vma.h"

static bool vma_hidden(struct vm_area_struct *vma)
{
	return !vma->vm_file && !vma->anon_vma && !(vma->vm_flags & VM_LOCKED);
}

/* Overwrite an entry, whole, with the VMA of another one. */
static void vma_plant_twice(struct mm_verify_run *run, struct mm_struct *mm,
			    struct vma_plant *plant)
{
	MA_STATE(mas, &mm->mm_mt, 0, 0);
	struct vm_area_struct *vma, *hidden = NULL;

	mas_for_each(&mas, vma, ULONG_MAX) {
		if (!vma_hidden(vma))
			continue;
		if (!hidden) {
			hidden = vma;
			continue;
		}
		plant->object = hidden;
		plant->other = vma;
		plant->start = mas.index;
		plant->last = mas.last;
		/* A range that fits needs no memory. */
		mas_store(&mas, hidden);
		run->planted = hidden;
		return;
	}
}

static void vma_plant_vma(struct mm_verify_run *run, struct mm_struct *mm,
			  struct vma_plant *plant)
{
	MA_STATE(mas, &mm->mm_mt, 0, 0);
	struct vm_area_struct *vma;

	mas_for_each(&mas, vma, ULONG_MAX) {
		if (!vma_hidden(vma))
			continue;
		if (run->inject == VMA_MM)
			vma->vm_mm = NULL;
		else
			vma->vm_end += PAGE_SIZE;
		plant->object = vma;
		run->planted = vma;
		return;
	}
}

/**
 * vma_plant_mm - spoil what the walk over a tree has to find
 * @run: the run; planted is set when something was
 * @mm: the mm, locked for writing
 * @plant: what vma_undo_mm() needs
 */
void vma_plant_mm(struct mm_verify_run *run, struct mm_struct *mm,
		  struct vma_plant *plant)
{
	if (run->planted)
		return;
	switch (run->inject) {
	case VMA_RANGE:
	case VMA_MM:
		vma_plant_vma(run, mm, plant);
		return;
	case VMA_TWICE:
		vma_plant_twice(run, mm, plant);
		return;
	case VMA_COUNT:
		mm->map_count++;
		break;
	case VMA_TOTAL:
		mm->total_vm++;
		break;
	case VMA_LOCKED_PAGES:
		if (!mm->locked_vm)
			return;
		mm->locked_vm--;
		break;
	default:
		return;
	}
	plant->object = mm;
	run->planted = mm;
}

/**
 * vma_undo_mm - undo vma_plant_mm()
 * @run: the run
 * @mm: the mm, locked since
 * @plant: what was planted
 */
void vma_undo_mm(struct mm_verify_run *run, struct mm_struct *mm,
		 struct vma_plant *plant)
{
	MA_STATE(mas, &mm->mm_mt, plant->start, plant->last);
	struct vm_area_struct *vma = plant->object;

	if (!plant->object)
		return;
	switch (run->inject) {
	case VMA_RANGE:
		vma->vm_end -= PAGE_SIZE;
		break;
	case VMA_MM:
		vma->vm_mm = mm;
		break;
	case VMA_TWICE:
		mas_store(&mas, plant->other);
		break;
	case VMA_COUNT:
		mm->map_count--;
		break;
	case VMA_TOTAL:
		mm->total_vm--;
		break;
	case VMA_LOCKED_PAGES:
		mm->locked_vm++;
		break;
	}
}

/**
 * vma_plant_anon - spoil what the look at a VMA's anon_vmas has to find
 * @run: the run; planted is set when something was
 * @vma: the VMA, whose anon_vma is locked for writing
 * @plant: what vma_undo_anon() needs
 */
void vma_plant_anon(struct mm_verify_run *run, struct vm_area_struct *vma,
		    struct vma_plant *plant)
{
	struct anon_vma_chain *avc;

	if (run->planted)
		return;
	avc = list_first_entry_or_null(&vma->anon_vma_chain,
				       struct anon_vma_chain, same_vma);
	if (!avc)
		return;
	if (run->inject == VMA_ANON_CHAIN) {
		plant->other = vma->anon_vma;
		vma->anon_vma = NULL;
		plant->object = vma;
	} else if (run->inject == VMA_ANON_TREE) {
		anon_vma_interval_tree_remove(avc, &avc->anon_vma->rb_root);
		plant->object = avc;
	}
	run->planted = plant->object;
}

/**
 * vma_undo_anon - undo vma_plant_anon()
 * @run: the run
 * @vma: the VMA, whose anon_vma was locked since
 * @plant: what was planted
 */
void vma_undo_anon(struct mm_verify_run *run, struct vm_area_struct *vma,
		   struct vma_plant *plant)
{
	struct anon_vma_chain *avc = plant->object;

	if (!plant->object)
		return;
	if (run->inject == VMA_ANON_CHAIN)
		vma->anon_vma = plant->other;
	else
		anon_vma_interval_tree_insert(avc, &avc->anon_vma->rb_root);
}

/**
 * vma_plant_file - take a VMA from its file's i_mmap
 * @run: the run; planted is set when it was
 * @vma: the VMA, whose i_mmap is locked for writing
 * @plant: what vma_undo_file() needs
 */
void vma_plant_file(struct mm_verify_run *run, struct vm_area_struct *vma,
		    struct vma_plant *plant)
{
	if (run->planted || run->inject != VMA_I_MMAP)
		return;
	vma_interval_tree_remove(vma, &vma->vm_file->f_mapping->i_mmap);
	plant->object = vma;
	run->planted = vma;
}

/**
 * vma_undo_file - undo vma_plant_file()
 * @run: the run
 * @vma: the VMA, whose i_mmap was locked since
 * @plant: what was planted
 */
void vma_undo_file(struct mm_verify_run *run, struct vm_area_struct *vma,
		   struct vma_plant *plant)
{
	if (plant->object)
		vma_interval_tree_insert(vma, &vma->vm_file->f_mapping->i_mmap);
}
