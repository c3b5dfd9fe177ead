// SPDX-License-Identifier: GPL-2.0
/*
 * The rmap verifier's walk: every page-table entry of every process, against the
 * page that it maps, and every VMA's place in the trees of the reverse map.  The
 * page-table lock pins the entry, hence one of the page's mappings and what names
 * its reverse map.
 */
#include <linux/hugetlb.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/oom.h>
#include <linux/pagemap.h>
#include <linux/pagewalk.h>
#include <linux/pid.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/swapops.h>
#include <linux/uaccess.h>

#include "../internal.h"
#include "rmap.h"

/* How much address space is walked in one hold of mmap_lock. */
#define RM_CHUNK	(64 * PMD_SIZE)
/* No balanced tree of a machine's VMAs is higher. */
#define RM_MAX_DEPTH	128

static void rm_page_found(struct mm_verify_run *run, unsigned int finding,
			  struct page *page, const struct rm_entry *entry)
{
	struct folio *folio = page_folio(page);
	struct vm_area_struct *vma = entry->vma;

	mm_verify_found(run, finding, page,
			"mm:%px vma:%px %lx-%lx pgoff %lx flags:%pGv anon_vma:%px file mapping:%px, address %lx%s\n"
			"page:%px pfn %#lx head:%px flags:%pGp refcount:%d mapcount:%d compound_mapcount:%d mapping:%px index:%lx",
			vma->vm_mm, vma, vma->vm_start, vma->vm_end,
			vma->vm_pgoff, &vma->vm_flags, vma->anon_vma,
			vma->vm_file ? vma->vm_file->f_mapping : NULL,
			entry->address, entry->whole ? " whole" : "",
			page, page_to_pfn(page), &folio->page, &folio->flags,
			folio_ref_count(folio), rm_raw_mapcount(page) + 1,
			rm_raw_whole(folio) + 1, folio->mapping,
			page_to_pgoff(page));
}

/*
 * Under mmap_lock, and with an anonymous page in the VMA: its list of anon_vmas
 * was complete before the page was mapped.
 */
static bool rm_in_chain(struct vm_area_struct *vma, struct anon_vma *anon_vma)
{
	struct anon_vma_chain *avc;

	list_for_each_entry(avc, &vma->anon_vma_chain, same_vma)
		if (avc->anon_vma == anon_vma)
			return true;
	return false;
}

/**
 * rm_check_entry - an entry against the page that it maps
 * @run: the run
 * @entry: the entry; its page-table lock is held, or all CPUs are stopped
 *
 * The entry is one of the page's mappings as long as it is there, so the page
 * counts one at least, and keeps what a mapped page keeps: its index, and its
 * file or an anon_vma of all the VMAs that map it.  page_move_anon_rmap() moves
 * a page that only this entry maps, and to an anon_vma of this VMA.
 */
void rm_check_entry(struct mm_verify_run *run, const struct rm_entry *entry)
{
	struct folio *folio = page_folio(entry->page);
	struct vm_area_struct *vma = entry->vma;
	unsigned long mapping, flags;
	pgoff_t pgoff;
	int raw;

	run->checked++;
	run->figures[RM_ENTRIES]++;
	raw = entry->whole ? rm_raw_whole(folio) : rm_raw_mapcount(entry->page);
	if (raw < -1)
		rm_page_found(run, RM_NEGATIVE, entry->page, entry);
	if (raw < 0)
		rm_page_found(run, RM_UNMAPPED, entry->page, entry);

	mapping = (unsigned long)READ_ONCE(folio->mapping);
	flags = mapping & PAGE_MAPPING_FLAGS;
	/* KSM keeps neither; a device's or a driver's page need not have any. */
	if (flags == PAGE_MAPPING_KSM || folio_is_zone_device(folio))
		return;
	if (!mapping || flags == PAGE_MAPPING_MOVABLE) {
		run->figures[RM_BARE_ENTRIES]++;
		return;
	}

	if (flags == PAGE_MAPPING_ANON) {
		mapping -= PAGE_MAPPING_ANON;
		if (!rm_in_chain(vma, (struct anon_vma *)mapping))
			rm_page_found(run, RM_ANON_VMA, entry->page, entry);
	} else if (vma->vm_flags & (VM_MIXEDMAP | VM_PFNMAP)) {
		return;
	} else if (!vma->vm_file ||
		   vma->vm_file->f_mapping != (struct address_space *)mapping) {
		rm_page_found(run, RM_FILE, entry->page, entry);
		return;
	}

	pgoff = vma->vm_pgoff + ((entry->address - vma->vm_start) >> PAGE_SHIFT);
	if (page_to_pgoff(entry->page) != pgoff)
		rm_page_found(run, RM_INDEX, entry->page, entry);
	rm_inject_candidate(run, entry);
}

/* A node of an interval tree, which may lead anywhere when the tree is broken. */
struct rm_node {
	struct rb_node rb;
	unsigned long first;
	unsigned long subtree_last;
};

static bool rm_read_vma(struct rm_node *node, struct vm_area_struct *vma)
{
	return !get_kernel_nofault(node->first, &vma->vm_pgoff) &&
	       !get_kernel_nofault(node->subtree_last,
				   &vma->shared.rb_subtree_last);
}

static bool rm_read_file_node(struct rm_node *node, struct rb_node *rb)
{
	return !get_kernel_nofault(node->rb, rb) &&
	       rm_read_vma(node, rb_entry(rb, struct vm_area_struct,
					  shared.rb));
}

static bool rm_read_anon_node(struct rm_node *node, struct rb_node *rb)
{
	struct anon_vma_chain *avc = rb_entry(rb, struct anon_vma_chain, rb);
	struct vm_area_struct *vma;

	return !get_kernel_nofault(node->rb, rb) &&
	       !get_kernel_nofault(vma, &avc->vma) &&
	       !get_kernel_nofault(node->first, &vma->vm_pgoff) &&
	       !get_kernel_nofault(node->subtree_last, &avc->rb_subtree_last);
}

/*
 * Would a search of the tree for any page from first to last come to this node?
 * A search goes down from the root, to the left as long as subtree_last says
 * that there is something, and to the right when it is not past its page.  So
 * the way up from the node says the same, and takes no longer.
 */
static bool rm_findable(struct rb_node *rb, struct rb_root_cached *root,
			bool (*read)(struct rm_node *node, struct rb_node *rb),
			unsigned long first, unsigned long last)
{
	struct rb_node *parent;
	struct rm_node node;
	unsigned int depth;

	if (!root->rb_leftmost || !read(&node, root->rb_leftmost) ||
	    node.first > first)
		return false;
	if (!read(&node, rb) || node.subtree_last < last)
		return false;
	for (depth = 0; depth < RM_MAX_DEPTH; depth++) {
		parent = rb_parent(&node.rb);
		if (!parent)
			return root->rb_root.rb_node == rb;
		if (!read(&node, parent) || node.subtree_last < last)
			return false;
		if (node.rb.rb_right == rb) {
			if (node.first > first)
				return false;
		} else if (node.rb.rb_left != rb) {
			return false;
		}
		rb = parent;
	}
	return false;
}

static unsigned long rm_last_pgoff(struct vm_area_struct *vma)
{
	return vma->vm_pgoff + vma_pages(vma) - 1;
}

/**
 * rm_check_anon_tree - a VMA's place in the tree of one of its anon_vmas
 * @run: the run
 * @avc: what links the two; mmap_lock and the anon_vma are held
 */
void rm_check_anon_tree(struct mm_verify_run *run, struct anon_vma_chain *avc)
{
	struct anon_vma *anon_vma = avc->anon_vma;
	struct vm_area_struct *vma = avc->vma;
	int refcount;

	if (get_kernel_nofault(refcount, &anon_vma->refcount.counter) ||
	    refcount <= 0) {
		mm_verify_found(run, RM_DEAD, anon_vma,
				"mm:%px vma:%px %lx-%lx has anon_vma:%px refcount:%d",
				vma->vm_mm, vma, vma->vm_start, vma->vm_end,
				anon_vma, refcount);
		return;
	}
	if (!rm_findable(&avc->rb, &anon_vma->rb_root, rm_read_anon_node,
			 vma->vm_pgoff, rm_last_pgoff(vma)))
		mm_verify_found(run, RM_ANON_TREE, avc,
				"mm:%px vma:%px %lx-%lx pgoff %lx is not to be found in anon_vma:%px refcount:%d",
				vma->vm_mm, vma, vma->vm_start, vma->vm_end,
				vma->vm_pgoff, anon_vma, refcount);
}

/**
 * rm_check_file_tree - a VMA's place in the tree of its file's mappings
 * @run: the run
 * @vma: the VMA, of a file; mmap_lock and i_mmap_rwsem are held
 */
void rm_check_file_tree(struct mm_verify_run *run, struct vm_area_struct *vma)
{
	struct address_space *mapping = vma->vm_file->f_mapping;

	if (!rm_findable(&vma->shared.rb, &mapping->i_mmap, rm_read_file_node,
			 vma->vm_pgoff, rm_last_pgoff(vma)))
		mm_verify_found(run, RM_FILE_TREE, vma,
				"mm:%px vma:%px %lx-%lx pgoff %lx is not to be found in the mapping:%px of %pD",
				vma->vm_mm, vma, vma->vm_start, vma->vm_end,
				vma->vm_pgoff, mapping, vma->vm_file);
}

static void rm_check_trees(struct mm_verify_run *run,
			   struct vm_area_struct *vma)
{
	/* Set before the list is, by a fault; the list once the lock is free. */
	struct anon_vma *anon_vma = READ_ONCE(vma->anon_vma);
	struct anon_vma_chain *avc;

	if (anon_vma) {
		anon_vma_lock_read(anon_vma);
		list_for_each_entry(avc, &vma->anon_vma_chain, same_vma)
			rm_check_anon_tree(run, avc);
		anon_vma_unlock_read(anon_vma);
	}
	if (vma->vm_file) {
		i_mmap_lock_read(vma->vm_file->f_mapping);
		rm_check_file_tree(run, vma);
		i_mmap_unlock_read(vma->vm_file->f_mapping);
	}
	rm_inject_trees(run, vma);
}

/**
 * rm_pte_page - the page that an entry counts as a mapping of
 * @vma: the VMA of the entry
 * @address: the address that it maps
 * @pte: the entry
 *
 * Return: the page, or NULL when there is none.
 */
struct page *rm_pte_page(struct vm_area_struct *vma, unsigned long address,
			 pte_t pte)
{
	swp_entry_t entry;

	if (pte_present(pte))
		return vm_normal_page(vma, address, pte);
	if (!is_swap_pte(pte))
		return NULL;
	/* Neither migration nor device-exclusive entries are counted. */
	entry = pte_to_swp_entry(pte);
	return is_device_private_entry(entry) ? pfn_swap_entry_to_page(entry) :
						NULL;
}

static int rm_pmd_entry(pmd_t *pmd, unsigned long address, unsigned long end,
			struct mm_walk *walk)
{
	struct rm_entry entry = { .vma = walk->vma };
	struct mm_verify_run *run = walk->private;
	unsigned long hold, i;
	spinlock_t *ptl;	/* of the table, or of the PMD */
	pte_t *start, *pte;

	ptl = pmd_trans_huge_lock(pmd, walk->vma);
	if (ptl) {
		/* For sparse, which does not see a lock that may not be had. */
		__acquire(ptl);
		entry.address = address & PMD_MASK;
		entry.whole = true;
		if (pmd_present(*pmd))
			entry.page = vm_normal_page_pmd(walk->vma,
							entry.address, *pmd);
		if (entry.page)
			rm_check_entry(run, &entry);
		spin_unlock(ptl);
		return 0;
	}

	/* mmap_lock keeps the table: whoever takes it away has it for write. */
	hold = max(READ_ONCE(mm_verify_max_hold), 1UL);
	while (address < end && !pmd_trans_unstable(pmd)) {
		start = pte_offset_map_lock(walk->mm, pmd, address, &ptl);
		pte = start;
		for (i = 0; i < hold && address < end; i++) {
			entry.address = address;
			entry.page = rm_pte_page(walk->vma, address, *pte);
			if (entry.page)
				rm_check_entry(run, &entry);
			pte++;
			address += PAGE_SIZE;
		}
		pte_unmap_unlock(start, ptl);
		cond_resched();
	}
	return 0;
}

#ifdef CONFIG_HUGETLB_PAGE
static int rm_hugetlb_entry(pte_t *pte, unsigned long hmask,
			    unsigned long address, unsigned long end,
			    struct mm_walk *walk)
{
	struct rm_entry entry = {
		.vma = walk->vma,
		.address = address & hmask,
		.whole = true,
	};
	spinlock_t *ptl;	/* of the entry */
	pte_t huge;

	ptl = huge_pte_lock(hstate_vma(walk->vma), walk->mm, pte);
	huge = huge_ptep_get(pte);
	if (pte_present(huge)) {
		entry.page = compound_head(pte_page(huge));
		rm_check_entry(walk->private, &entry);
	}
	spin_unlock(ptl);
	cond_resched();
	return 0;
}
#else
#define rm_hugetlb_entry	NULL
#endif

static const struct mm_walk_ops rm_walk_ops = {
	.pmd_entry	= rm_pmd_entry,
	.hugetlb_entry	= rm_hugetlb_entry,
};

/* A part of a VMA, under mmap_lock. */
static void rm_walk_part(struct mm_verify_run *run, struct vm_area_struct *vma,
			 unsigned long start, unsigned long end)
{
	struct address_space *mapping = NULL;

	/* Others unshare the page tables of a hugetlb VMA without mmap_lock. */
	if (is_vm_hugetlb_page(vma)) {
		mapping = vma->vm_file->f_mapping;
		i_mmap_lock_read(mapping);
	}
	walk_page_range(vma->vm_mm, start, end, &rm_walk_ops, run);
	rm_inject_entry(run);
	if (mapping)
		i_mmap_unlock_read(mapping);
}

static int rm_walk_mm(struct mm_verify_run *run, struct mm_struct *mm)
{
	unsigned long address = 0, start, end;
	struct vm_area_struct *vma;
	int ret;

	run->figures[RM_MMS]++;
	for (;;) {
		if (mmap_read_lock_killable(mm))
			return -EINTR;
		vma = find_vma(mm, address);
		if (!vma) {
			mmap_read_unlock(mm);
			return 0;
		}
		start = max(address, vma->vm_start);
		end = vma->vm_end;
		if (end - start > RM_CHUNK)
			end = ALIGN_DOWN(start + RM_CHUNK, PMD_SIZE);
		rm_check_trees(run, vma);
		rm_walk_part(run, vma, start, end);
		mmap_read_unlock(mm);

		address = end;
		ret = mm_verify_pause(run);
		if (ret)
			return ret;
	}
}

/* The mm of the first process from *nr on that has one; *nr goes behind it. */
static struct mm_struct *rm_next_mm(pid_t *nr)
{
	struct task_struct *task;
	struct mm_struct *mm;
	struct pid *pid;

	rcu_read_lock();
	while ((pid = find_ge_pid(*nr, &init_pid_ns))) {
		*nr = pid_nr(pid) + 1;
		task = pid_task(pid, PIDTYPE_TGID);
		if (!task || task->flags & PF_KTHREAD)
			continue;
		task = find_lock_task_mm(task);
		if (!task)
			continue;
		__acquire(&task->alloc_lock);	/* for sparse, again */
		mm = task->mm;
		mmget(mm);
		task_unlock(task);
		rcu_read_unlock();
		return mm;
	}
	rcu_read_unlock();
	return NULL;
}

/**
 * rm_walk - check every page-table entry of every process
 * @run: the run
 *
 * Return: 0, or what ends the run.
 */
int rm_walk(struct mm_verify_run *run)
{
	struct mm_struct *mm;
	pid_t nr = 1;
	int ret;

	while ((mm = rm_next_mm(&nr))) {
		ret = rm_walk_mm(run, mm);
		/* Not the last reference here: we hold cpus_read_lock(). */
		mmput_async(mm);
		if (ret)
			return ret;
	}
	return 0;
}
