// SPDX-License-Identifier: GPL-2.0
/*
 * Verifier of VMAs: the maple tree they are found in, the counts kept of them,
 * and the rmap trees they hang in.
 *
 * One mm at a time, under its mmap_lock for writing, which pins its tree, its
 * VMAs and its counts; munmap() lowers total_vm with the lock held for reading
 * only.  The rmap trees are looked at under their own locks, taken in addition.
 *
 * See Documentation/mm/verify.rst.
 */
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>

#include "../internal.h"
#include "vma.h"

/* A red-black tree of all memory there is has fewer levels. */
#define VMA_MAX_LEVELS	128

static const char * const vma_findings[VMA_NR_FINDINGS] = {
	[VMA_RANGE]		= "range",
	[VMA_TWICE]		= "twice",
	[VMA_MM]		= "vm_mm",
	[VMA_COUNT]		= "map_count",
	[VMA_TOTAL]		= "total_vm",
	[VMA_LOCKED_PAGES]	= "locked_vm",
	[VMA_ANON_CHAIN]	= "anon_chain",
	[VMA_ANON_TREE]		= "anon_tree",
	[VMA_I_MMAP]		= "i_mmap",
};

enum vma_figure {
	VMA_MMS,		/* address spaces */
	VMA_FILES,		/* VMAs looked for in an i_mmap */
	VMA_CHAINS,		/* anon_vma_chains looked for in an anon_vma */
	VMA_NR_FIGURES,
};

static const char * const vma_figures[VMA_NR_FIGURES] = {
	[VMA_MMS]	= "mms",
	[VMA_FILES]	= "files",
	[VMA_CHAINS]	= "chains",
};

/* A finding about one VMA, which is known to be readable. */
static void vma_found(struct mm_verify_run *run, unsigned int finding,
		      const void *object, struct mm_struct *mm,
		      struct vm_area_struct *vma, unsigned long start,
		      unsigned long last)
{
	mm_verify_found(run, finding, object,
			"mm:%px vma:%px [%lx-%lx) in the tree at [%lx-%lx]\n"
			"vm_mm:%px flags:%lx pgoff:%lx file:%px anon_vma:%px ops:%ps\n"
			"map_count:%d total_vm:%lx locked_vm:%lx object:%px",
			mm, vma, vma->vm_start, vma->vm_end, start, last,
			vma->vm_mm, vma->vm_flags, vma->vm_pgoff, vma->vm_file,
			vma->anon_vma, vma->vm_ops, mm->map_count,
			mm->total_vm, mm->locked_vm, object);
}

/**
 * struct vma_itree - how to read the interval trees that VMAs are in
 * @pgoff: first page that a node stands for
 * @last: last page that it stands for
 * @subtree: last page of the subtree below it
 */
struct vma_itree {
	unsigned long (*pgoff)(struct rb_node *rb);
	unsigned long (*last)(struct rb_node *rb);
	unsigned long (*subtree)(struct rb_node *rb);
};

/*
 * Is the node in the tree, and will a search for its range come by? Upwards
 * from the node, which takes as many steps as the tree has levels.
 */
static bool vma_in_itree(struct rb_node *rb, struct rb_root_cached *root,
			 const struct vma_itree *ops)
{
	unsigned long pgoff = ops->pgoff(rb), last = ops->last(rb);
	struct rb_node *parent, *left, *right;
	int level;

	if (ops->subtree(rb) < last)
		return false;
	for (level = 0; level < VMA_MAX_LEVELS; level++, rb = parent) {
		parent = rb_parent(rb);
		if (!parent)
			return root->rb_root.rb_node == rb;
		if (get_kernel_nofault(left, &parent->rb_left) ||
		    get_kernel_nofault(right, &parent->rb_right))
			return false;
		if (rb != left && rb != right)
			return false;
		if (ops->subtree(parent) < last)
			return false;
		if (rb == left ? pgoff > ops->pgoff(parent) :
				 pgoff < ops->pgoff(parent))
			return false;
	}
	return false;
}

static struct vm_area_struct *vma_of(struct rb_node *rb)
{
	return rb_entry(rb, struct vm_area_struct, shared.rb);
}

static struct anon_vma_chain *avc_of(struct rb_node *rb)
{
	return rb_entry(rb, struct anon_vma_chain, rb);
}

static unsigned long vma_file_pgoff(struct rb_node *rb)
{
	return vma_of(rb)->vm_pgoff;
}

static unsigned long vma_file_last(struct rb_node *rb)
{
	return vma_of(rb)->vm_pgoff + vma_pages(vma_of(rb)) - 1;
}

static unsigned long vma_file_max(struct rb_node *rb)
{
	return vma_of(rb)->shared.rb_subtree_last;
}

static const struct vma_itree vma_file_tree = {
	.pgoff	 = vma_file_pgoff,
	.last	 = vma_file_last,
	.subtree = vma_file_max,
};

static unsigned long vma_anon_pgoff(struct rb_node *rb)
{
	return avc_of(rb)->vma->vm_pgoff;
}

static unsigned long vma_anon_last(struct rb_node *rb)
{
	struct vm_area_struct *vma = avc_of(rb)->vma;

	return vma->vm_pgoff + vma_pages(vma) - 1;
}

static unsigned long vma_anon_max(struct rb_node *rb)
{
	return avc_of(rb)->rb_subtree_last;
}

static const struct vma_itree vma_anon_tree = {
	.pgoff	 = vma_anon_pgoff,
	.last	 = vma_anon_last,
	.subtree = vma_anon_max,
};

static void vma_check_file(struct mm_verify_run *run, struct mm_struct *mm,
			   struct vm_area_struct *vma, unsigned long start,
			   unsigned long last)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	bool write = mm_verify_injecting(run, VMA_I_MMAP);
	struct vma_plant plant = {};

	run->figures[VMA_FILES]++;
	if (write)
		i_mmap_lock_write(mapping);
	else
		i_mmap_lock_read(mapping);

	vma_plant_file(run, vma, &plant);
	if (RB_EMPTY_NODE(&vma->shared.rb) ||
	    !vma_in_itree(&vma->shared.rb, &mapping->i_mmap, &vma_file_tree))
		vma_found(run, VMA_I_MMAP, vma, mm, vma, start, last);
	vma_undo_file(run, vma, &plant);

	if (write)
		i_mmap_unlock_write(mapping);
	else
		i_mmap_unlock_read(mapping);
}

static void vma_check_chain(struct mm_verify_run *run, struct mm_struct *mm,
			    struct vm_area_struct *vma, struct anon_vma *anon_vma,
			    unsigned long start, unsigned long last)
{
	struct anon_vma_chain *avc;
	bool own = false;

	list_for_each_entry(avc, &vma->anon_vma_chain, same_vma) {
		run->figures[VMA_CHAINS]++;
		if (avc->vma != vma || avc->anon_vma->root != anon_vma->root) {
			vma_found(run, VMA_ANON_CHAIN, vma, mm, vma, start,
				  last);
			return;
		}
		own |= avc->anon_vma == vma->anon_vma;
		if (RB_EMPTY_NODE(&avc->rb) ||
		    !vma_in_itree(&avc->rb, &avc->anon_vma->rb_root,
				  &vma_anon_tree))
			vma_found(run, VMA_ANON_TREE, avc, mm, vma, start,
				  last);
	}
	if (!own)
		vma_found(run, VMA_ANON_CHAIN, vma, mm, vma, start, last);
}

static void vma_check_anon(struct mm_verify_run *run, struct mm_struct *mm,
			   struct vm_area_struct *vma, unsigned long start,
			   unsigned long last)
{
	struct anon_vma *anon_vma = vma->anon_vma;
	bool write = mm_verify_injecting(run, VMA_ANON_CHAIN) ||
		     mm_verify_injecting(run, VMA_ANON_TREE);
	struct vma_plant plant = {};

	if (!anon_vma) {
		if (!list_empty(&vma->anon_vma_chain))
			vma_found(run, VMA_ANON_CHAIN, vma, mm, vma, start,
				  last);
		return;
	}

	if (write)
		anon_vma_lock_write(anon_vma);
	else
		anon_vma_lock_read(anon_vma);

	vma_plant_anon(run, vma, &plant);
	vma_check_chain(run, mm, vma, anon_vma, start, last);
	vma_undo_anon(run, vma, &plant);

	if (write)
		anon_vma_unlock_write(anon_vma);
	else
		anon_vma_unlock_read(anon_vma);
}

/* One entry of the tree. Returns false when it is no VMA that can be read. */
static bool vma_check_entry(struct mm_verify_run *run, struct mm_struct *mm,
			    struct vm_area_struct *vma, unsigned long start,
			    unsigned long last)
{
	struct mm_struct *vm_mm;

	if (get_kernel_nofault(vm_mm, &vma->vm_mm)) {
		mm_verify_found(run, VMA_RANGE, vma,
				"mm:%px in the tree at [%lx-%lx]: no VMA: %px",
				mm, start, last, vma);
		return false;
	}
	if (vma->vm_start != start || vma->vm_end != last + 1) {
		unsigned int finding = VMA_RANGE;

		if ((vma->vm_start < start || vma->vm_start > last) &&
		    mtree_load(&mm->mm_mt, vma->vm_start) == vma)
			finding = VMA_TWICE;
		vma_found(run, finding, vma, mm, vma, start, last);
		/* Its links belong to its other place, or to no range. */
		return true;
	}
	if (vm_mm != mm)
		vma_found(run, VMA_MM, vma, mm, vma, start, last);
	if (vma->vm_file)
		vma_check_file(run, mm, vma, start, last);
	vma_check_anon(run, mm, vma, start, last);
	return true;
}

static void vma_check_mm(struct mm_verify_run *run, struct mm_struct *mm)
{
	MA_STATE(mas, &mm->mm_mt, 0, 0);
	unsigned long pages = 0, locked = 0;
	struct vma_plant plant = {};
	struct vm_area_struct *vma;
	int count = 0;

	run->figures[VMA_MMS]++;
	vma_plant_mm(run, mm, &plant);
	mas_for_each(&mas, vma, ULONG_MAX) {
		unsigned long nr = (mas.last - mas.index + 1) >> PAGE_SHIFT;

		count++;
		run->checked++;
		pages += nr;
		if (vma_check_entry(run, mm, vma, mas.index, mas.last) &&
		    (vma->vm_flags & VM_LOCKED))
			locked += nr;
		/* mmap_lock is held, and may be: no spinlock is. */
		if (!(count & 255))
			cond_resched();
	}

	if (count != mm->map_count)
		mm_verify_found(run, VMA_COUNT, mm,
				"mm:%px map_count:%d entries in the tree:%d",
				mm, mm->map_count, count);
	if (pages != mm->total_vm)
		mm_verify_found(run, VMA_TOTAL, mm,
				"mm:%px total_vm:%lu pages in the tree:%lu",
				mm, mm->total_vm, pages);
	/* Drivers account what they pin in locked_vm too. */
	if (locked > mm->locked_vm)
		mm_verify_found(run, VMA_LOCKED_PAGES, mm,
				"mm:%px locked_vm:%lu pages of VM_LOCKED VMAs:%lu",
				mm, mm->locked_vm, locked);
	vma_undo_mm(run, mm, &plant);
}

/* The mm of the first process from pid nr on, whichever thread still has it. */
static struct mm_struct *vma_next_mm(pid_t *nr)
{
	struct task_struct *task, *thread;
	struct mm_struct *mm = NULL;
	struct pid *pid;

	rcu_read_lock();
	while (!mm && (pid = find_ge_pid(*nr, &init_pid_ns))) {
		*nr = pid_nr(pid) + 1;
		task = pid_task(pid, PIDTYPE_TGID);
		if (!task)
			continue;
		for_each_thread(task, thread) {
			mm = get_task_mm(thread);
			if (mm)
				break;
		}
	}
	rcu_read_unlock();
	return mm;
}

static int vma_verify(struct mm_verify_run *run)
{
	struct mm_struct *mm;
	pid_t nr = 1;
	int ret = 0;

	while (!ret && (mm = vma_next_mm(&nr))) {
		ret = mmap_write_lock_killable(mm);
		if (!ret) {
			vma_check_mm(run, mm);
			mmap_write_unlock(mm);
		}
		mmput(mm);
		if (!ret)
			ret = mm_verify_pause(run);
	}
	return ret;
}

static struct mm_verifier vma_verifier = {
	.name		= "vma",
	.findings	= vma_findings,
	.nr_findings	= VMA_NR_FINDINGS,
	.figures	= vma_figures,
	.nr_figures	= VMA_NR_FIGURES,
	.verify		= vma_verify,
};

static int __init vma_verifier_init(void)
{
	return mm_verify_register(&vma_verifier);
}
late_initcall(vma_verifier_init);
