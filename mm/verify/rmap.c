// SPDX-License-Identifier: GPL-2.0
/*
 * Verifier of the reverse map: page-table entries, mapcounts, and the trees
 * that lead from a page to the VMAs that map it.
 *
 * Two passes, in opposite directions:
 *
 *  walk: every page-table entry of every process.  The page-table lock pins the
 *	entry, hence one of the page's mappings and what names its reverse map.
 *  scan: every mapped folio, by pfn.  The entries that its reverse map leads to
 *	are counted, and compared with its mapcounts.
 *
 * No lock pins a mapcount.  But entry and mapcount change in one hold of a
 * page-table lock, which is a spinlock: when all CPUs are stopped, nobody is in
 * between.  So the scan counts with the CPUs running first, and stops them for
 * a folio that did not add up.
 *
 * See Documentation/mm/verify.rst.
 */
#include <linux/cpu.h>
#include <linux/hugetlb.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmzone.h>
#include <linux/oom.h>
#include <linux/pagemap.h>
#include <linux/pagewalk.h>
#include <linux/pid.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/stop_machine.h>
#include <linux/swapops.h>
#include <linux/uaccess.h>

#include "../internal.h"
#include "rmap.h"

/* How often a folio is counted with the CPUs running, or its lock is tried. */
#define RM_TRIES	3
/* How much address space is walked in one hold of mmap_lock. */
#define RM_CHUNK	(64 * PMD_SIZE)
/* How many pfns are looked at between pauses. */
#define RM_BATCH	1024UL
/* Of so many VMAs each is compared with all before it, the CPUs stopped. */
#define RM_MAX_ONCE	1000UL
/* No balanced tree of a machine's VMAs is higher. */
#define RM_MAX_DEPTH	128

static const char * const rmap_findings[RM_NR_FINDINGS] = {
	[RM_UNMAPPED]	= "unmapped",
	[RM_ANON_VMA]	= "anon_vma",
	[RM_INDEX]	= "index",
	[RM_FILE]	= "file",
	[RM_ANON_TREE]	= "anon_tree",
	[RM_FILE_TREE]	= "file_tree",
	[RM_DEAD]	= "dead",
	[RM_TOO_MANY]	= "too_many",
	[RM_TOO_FEW]	= "too_few",
	[RM_NEGATIVE]	= "negative",
	[RM_DOUBLE_MAP]	= "double_map",
};

enum rmap_figure {
	RM_MMS,			/* address spaces walked */
	RM_ENTRIES,		/* entries that map a page */
	RM_FOLIOS,		/* folios whose entries were counted */
	RM_KSM_FOLIOS,		/* KSM folios: not counted */
	RM_BARE_ENTRIES,	/* entries of pages without a reverse map */
	RM_STOPS,		/* times that all CPUs were stopped */
	RM_BUSY,		/* folios left out because they were locked */
	RM_UNPROVEN,		/* folios that did not add up, and could not be pinned */
	RM_NR_FIGURES,
};

static const char * const rmap_figures[RM_NR_FIGURES] = {
	[RM_MMS]		= "mms",
	[RM_ENTRIES]		= "entries",
	[RM_FOLIOS]		= "folios",
	[RM_KSM_FOLIOS]		= "ksm_folios",
	[RM_BARE_ENTRIES]	= "bare_entries",
	[RM_STOPS]		= "stops",
	[RM_BUSY]		= "busy_folios",
	[RM_UNPROVEN]		= "unproven_folios",
};

/* Too big for the stack; the core runs one verifier at a time. */
static struct rm_folio rm_folio;

static int rm_raw_mapcount(struct page *page)
{
	return atomic_read(&page->_mapcount);
}

/* A hugetlb folio has only this one. */
static int rm_raw_whole(struct folio *folio)
{
	return folio_test_large(folio) ?
	       atomic_read(folio_mapcount_ptr(folio)) : -1;
}

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

/* The page that an entry counts as a mapping of; NULL when there is none. */
static struct page *rm_pte_page(struct vm_area_struct *vma,
				unsigned long address, pte_t pte)
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

static int rm_walk(struct mm_verify_run *run)
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

/* Did a VMA before this one in the tree lead to the same entry? */
static bool rm_seen_at(struct vm_area_struct *before,
		       struct vm_area_struct *vma, unsigned long address)
{
	pgoff_t pgoff = vma->vm_pgoff +
			((address - vma->vm_start) >> PAGE_SHIFT);

	return before->vm_mm == vma->vm_mm && address >= before->vm_start &&
	       address < before->vm_end &&
	       before->vm_pgoff +
	       ((address - before->vm_start) >> PAGE_SHIFT) == pgoff;
}

/*
 * While a VMA is split or merged, another one that covers part of it is in the
 * trees of its anon_vmas too.
 */
static bool rm_seen(struct rm_folio *f, struct vm_area_struct *vma,
		    unsigned long address)
{
	pgoff_t first = folio_pgoff(f->folio);
	pgoff_t last = first + folio_nr_pages(f->folio) - 1;
	struct vm_area_struct *before;
	struct anon_vma_chain *avc;

	if (f->anon_vma) {
		anon_vma_interval_tree_foreach(avc, &f->anon_vma->rb_root,
					       first, last) {
			if (avc->vma == vma)
				return false;
			if (rm_seen_at(avc->vma, vma, address))
				return true;
		}
	} else {
		vma_interval_tree_foreach(before, &f->mapping->i_mmap,
					  first, last) {
			if (before == vma)
				return false;
			if (rm_seen_at(before, vma, address))
				return true;
		}
	}
	return false;
}

/* Several VMAs lead to an entry of a table that they share: is it the first? */
static bool rm_first_of_shared(struct rm_folio *f, pte_t *pte)
{
	unsigned int i;

	if (!hugetlb_pmd_shared(pte))
		return true;
	for (i = 0; i < f->nr_shared; i++)
		if (f->shared[i] == pte)
			return false;
	if (f->nr_shared == RM_MAX_SHARED) {
		f->unsure = true;
		return false;
	}
	f->shared[f->nr_shared++] = pte;
	return true;
}

/* The entries of one VMA that map the folio. Returns false to end the walk. */
static bool rm_count_vma(struct rm_folio *f, struct vm_area_struct *vma)
{
	struct folio *folio = f->folio;
	unsigned long address = vma_address(&folio->page, vma);
	DEFINE_FOLIO_VMA_WALK(pvmw, folio, vma, address, PVMW_SYNC);
	struct page *page;

	if (!f->stopped) {
		cond_resched();
	} else if (f->vmas++ >= READ_ONCE(mm_verify_max_hold)) {
		f->unsure = true;
		return false;
	}
	if (address == -EFAULT)
		return true;
	/* The pages of a stack that exec moves are at an address of their own. */
	if (vma_is_temporary_stack(vma))
		f->unsure = true;

	while (page_vma_mapped_walk(&pvmw)) {
		if (f->once && rm_seen(f, vma, pvmw.address))
			continue;
		if (folio_test_hugetlb(folio)) {
			if (rm_first_of_shared(f, pvmw.pte))
				f->pmds++;
		} else if (pvmw.pte) {
			page = rm_pte_page(vma, pvmw.address, *pvmw.pte);
			if (page)
				f->ptes[folio_page_idx(folio, page)]++;
		} else {
			f->pmds++;
		}
	}
	return true;
}

static void rm_count(struct rm_folio *f)
{
	pgoff_t first = folio_pgoff(f->folio);
	pgoff_t last = first + folio_nr_pages(f->folio) - 1;
	struct vm_area_struct *vma;
	struct anon_vma_chain *avc;

	f->vmas = 0;
	f->pmds = 0;
	f->nr_shared = 0;
	f->unsure = false;
	if (!folio_test_hugetlb(f->folio))
		memset(f->ptes, 0, folio_nr_pages(f->folio) * sizeof(*f->ptes));
	if (f->anon_vma) {
		anon_vma_interval_tree_foreach(avc, &f->anon_vma->rb_root,
					       first, last)
			if (!rm_count_vma(f, avc->vma))
				break;
	} else {
		vma_interval_tree_foreach(vma, &f->mapping->i_mmap, first, last)
			if (!rm_count_vma(f, vma))
				break;
	}
}

/* Is there more to it than a first count? Only what is pinned is reported. */
static void rm_folio_found(struct rm_folio *f, unsigned int finding,
			   struct page *page, int counted, int entries)
{
	struct folio *folio = f->folio;

	f->agrees = false;
	if (!f->report)
		return;
	mm_verify_found(f->run, finding, folio,
			"page:%px pfn %#lx counts %d, %d entries were found through %s:%px, %lu VMAs\n"
			"head:%px order %u flags:%pGp%s refcount:%d compound_mapcount:%d PMD entries %u mapping:%px index:%lx",
			page, page_to_pfn(page), counted, entries,
			f->anon_vma ? "anon_vma" : "mapping",
			f->anon_vma ? (void *)f->anon_vma : f->mapping, f->vmas,
			&folio->page, folio_order(folio), &folio->flags,
			folio_test_large(folio) && PageDoubleMap(&folio->page) ?
			" double_map" : "", folio_ref_count(folio),
			rm_raw_whole(folio) + 1, f->pmds, folio->mapping,
			folio->index);
}

/* One of a folio's mapcounts. The first that is wrong says enough. */
static void rm_compare_one(struct rm_folio *f, struct page *page, int raw,
			   int extra, int entries)
{
	int counted = raw + 1 - extra;

	if (!f->agrees)
		return;
	if (raw < -1)
		rm_folio_found(f, RM_NEGATIVE, page, counted, entries);
	else if (counted > entries)
		rm_folio_found(f, RM_TOO_MANY, page, counted, entries);
	else if (counted < entries)
		rm_folio_found(f, RM_TOO_FEW, page, counted, entries);
	f->excess |= counted < entries;
}

/*
 * What the mapcounts count: that of the whole folio its PMDs, and that of a page
 * its PTEs; of a file's page the PMDs too, and of an anonymous one with
 * PageDoubleMap one more for all PMDs.
 */
static void rm_compare(struct rm_folio *f)
{
	struct folio *folio = f->folio;
	bool large = folio_test_large(folio), twice;
	long i, nr = folio_nr_pages(folio);
	struct page *page;
	int extra;

	f->agrees = true;
	f->excess = false;
	if (large)
		rm_compare_one(f, &folio->page, rm_raw_whole(folio), 0,
			       f->pmds);
	if (folio_test_hugetlb(folio))
		return;

	twice = large && f->anon_vma && PageDoubleMap(&folio->page);
	if (twice && !f->pmds)
		rm_folio_found(f, RM_DOUBLE_MAP, &folio->page,
			       rm_raw_whole(folio) + 1, 0);
	extra = f->anon_vma ? twice : f->pmds;
	for (i = 0; i < nr; i++) {
		page = folio_page(folio, i);
		rm_compare_one(f, page, rm_raw_mapcount(page), extra,
			       f->ptes[i]);
	}
}

/**
 * rm_check_folio - count the entries that map a folio, and compare
 * @f: the folio; its lock and that of its reverse map's trees are held
 *
 * The folio's lock keeps its mapping, and keeps it from being split, collapsed
 * or migrated, and from being mapped by a fault.  The lock of the trees keeps
 * the VMAs and their page tables.  Unmapping and fork go on unless all CPUs are
 * stopped; only then are findings counted.
 */
void rm_check_folio(struct rm_folio *f)
{
	f->report = false;
	f->once = false;
	rm_count(f);
	rm_compare(f);
	if (f->agrees || !f->stopped)
		return;

	/* Unless an entry was counted twice, that is it. */
	if (f->excess) {
		f->once = true;
		if (f->vmas > RM_MAX_ONCE)
			f->unsure = true;
		else
			rm_count(f);
	}
	f->report = !f->unsure;
	rm_compare(f);
}

static int rm_check_stopped(void *data)
{
	struct rm_folio *f = data;

	rm_inject_plant(f);
	rm_check_folio(f);
	rm_inject_undo(f);
	return 0;
}

enum rm_locked { RM_NOT_MAPPED, RM_LOCK_BUSY, RM_LOCKED };

/*
 * An anon_vma lives as long as a folio that points to it is mapped, and a folio
 * that is locked is not mapped anew once it was not.
 */
static bool rm_anon_vma_alive(struct rm_folio *f, struct anon_vma *anon_vma)
{
	struct folio *folio = f->folio;
	int refcount = 0;

	if (!get_kernel_nofault(refcount, &anon_vma->refcount.counter) &&
	    refcount > 0)
		return true;
	/* It may have been unmapped before we looked. */
	smp_rmb();
	if (folio_mapped(folio))
		mm_verify_found(f->run, RM_DEAD, folio,
				"head:%px pfn %#lx order %u flags:%pGp refcount:%d is mapped, anon_vma:%px refcount:%d index:%lx",
				&folio->page, folio_pfn(folio),
				folio_order(folio), &folio->flags,
				folio_ref_count(folio), anon_vma, refcount,
				folio->index);
	return false;
}

/* Lock a folio that we have a reference of, and the trees of its reverse map. */
static enum rm_locked rm_lock_folio(struct rm_folio *f)
{
	struct folio *folio = f->folio;
	unsigned long mapping;

	f->anon_vma = NULL;
	f->mapping = NULL;
	if (!folio_trylock(folio))
		return RM_LOCK_BUSY;

	mapping = (unsigned long)READ_ONCE(folio->mapping);
	switch (mapping & PAGE_MAPPING_FLAGS) {
	case PAGE_MAPPING_ANON:
		mapping -= PAGE_MAPPING_ANON;
		if (!rm_anon_vma_alive(f, (struct anon_vma *)mapping))
			break;
		f->anon_vma = folio_lock_anon_vma_read(folio, NULL);
		if (!f->anon_vma)
			break;
		return RM_LOCKED;
	case 0:
		if (!mapping)
			break;
		f->mapping = (struct address_space *)mapping;
		if (!folio_test_hugetlb(folio)) {
			i_mmap_lock_read(f->mapping);
			return RM_LOCKED;
		}
		/* The two locks of hugetlb are taken in the other order. */
		if (i_mmap_trylock_read(f->mapping))
			return RM_LOCKED;
		folio_unlock(folio);
		return RM_LOCK_BUSY;
	}
	folio_unlock(folio);
	return RM_NOT_MAPPED;
}

static void rm_unlock_folio(struct rm_folio *f)
{
	if (f->anon_vma)
		anon_vma_unlock_read(f->anon_vma);
	else
		i_mmap_unlock_read(f->mapping);
	folio_unlock(f->folio);
}

/*
 * Count a mapped folio until it adds up: with all CPUs stopped when it did not so
 * far, and again when it could not be pinned even so.
 */
static void rm_judge_folio(struct rm_folio *f)
{
	struct mm_verify_run *run = f->run;
	enum rm_locked locked;
	int tries;

	for (tries = 0; tries < 2 * RM_TRIES; tries++) {
		locked = rm_lock_folio(f);
		if (locked == RM_NOT_MAPPED)
			return;
		if (locked == RM_LOCK_BUSY) {
			schedule_timeout_idle(1);
			continue;
		}

		f->stopped = tries >= RM_TRIES || rm_inject_wants(f);
		/* A preempted holder of a spinlock would be in between. */
		if (IS_ENABLED(CONFIG_PREEMPT_RT))
			f->stopped = false;
		if (f->stopped) {
			run->figures[RM_STOPS]++;
			stop_machine_cpuslocked(rm_check_stopped, f, NULL);
		} else {
			rm_check_folio(f);
		}
		rm_unlock_folio(f);
		if (f->agrees || f->report)
			break;
		if (f->stopped)
			schedule_timeout_idle(1);
	}

	if (locked == RM_LOCK_BUSY) {
		run->figures[RM_BUSY]++;
		return;
	}
	run->checked++;
	run->figures[RM_FOLIOS]++;
	if (!f->agrees && !f->report)
		run->figures[RM_UNPROVEN]++;
}

/* Is there something to compare? Without locks, but with a reference. */
static bool rm_is_mapped(struct rm_folio *f)
{
	struct folio *folio = f->folio;
	long i, nr = folio_nr_pages(folio);

	if (rm_raw_whole(folio) != -1)
		return true;
	if (folio_test_hugetlb(folio))
		return false;
	for (i = 0; i < nr; i++)
		if (rm_raw_mapcount(folio_page(folio, i)) != -1)
			return true;
	return false;
}

/* A count that no page in use has at any moment. Nothing has to be pinned. */
static bool rm_is_negative(struct rm_folio *f)
{
	struct folio *folio = f->folio;
	long i = 0, nr = folio_test_hugetlb(folio) ? 0 : folio_nr_pages(folio);
	int raw = rm_raw_whole(folio);

	for (; raw >= -1 && i < nr; i++)
		raw = rm_raw_mapcount(folio_page(folio, i));
	if (raw >= -1)
		return false;
	f->report = true;
	rm_folio_found(f, RM_NEGATIVE, folio_page(folio, max(i, 1L) - 1),
		       raw + 1, 0);
	return true;
}

/* Returns the number of pages that were dealt with. */
static unsigned long rm_scan_page(struct mm_verify_run *run, struct page *page)
{
	struct rm_folio *f = &rm_folio;
	struct folio *folio = (struct folio *)page;
	unsigned long nr = 1, mapping;

	if (PageTail(page) || PageSlab(page) || PageReserved(page) ||
	    page_has_type(page) || !folio_try_get(folio))
		return nr;
	/* What it was may have been freed before we had it. */
	if (PageTail(page) || folio_test_slab(folio) || page_has_type(page) ||
	    folio_is_zone_device(folio))
		goto put;
	nr = folio_nr_pages(folio);
	if (nr > MAX_ORDER_NR_PAGES && !folio_test_hugetlb(folio))
		goto put;

	mapping = (unsigned long)READ_ONCE(folio->mapping);
	if (!mapping)
		goto put;
	f->run = run;
	f->folio = folio;
	f->stopped = false;
	f->vmas = 0;
	f->pmds = 0;
	switch (mapping & PAGE_MAPPING_FLAGS) {
	case PAGE_MAPPING_KSM:
		if (rm_is_mapped(f) && !rm_is_negative(f))
			run->figures[RM_KSM_FOLIOS]++;
		break;
	case PAGE_MAPPING_ANON:
	case 0:
		if (rm_is_mapped(f) && !rm_is_negative(f))
			rm_judge_folio(f);
		break;
	}
put:
	folio_put(folio);
	return nr;
}

static int rm_scan_zone(struct mm_verify_run *run, struct zone *zone)
{
	unsigned long pfn = zone->zone_start_pfn, next = pfn + RM_BATCH;
	unsigned long end = zone_end_pfn(zone);
	struct page *page;
	int ret;

	while (pfn < end) {
		page = pfn_to_online_page(pfn);
		if (!page)
			pfn = ALIGN(pfn + 1, pageblock_nr_pages);
		else if (page_zone(page) != zone)
			pfn++;
		else
			pfn += rm_scan_page(run, page);
		if (pfn >= next) {
			next = pfn + RM_BATCH;
			ret = mm_verify_pause(run);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int rmap_verify(struct mm_verify_run *run)
{
	struct zone *zone;
	int ret;

	/* Comes before all locks that are held when CPUs are stopped. */
	cpus_read_lock();
	ret = rm_walk(run);
	if (!ret) {
		get_online_mems();
		for_each_populated_zone(zone) {
			ret = rm_scan_zone(run, zone);
			if (ret)
				break;
		}
		put_online_mems();
	}
	cpus_read_unlock();
	return ret;
}

static struct mm_verifier rmap_verifier = {
	.name		= "rmap",
	.findings	= rmap_findings,
	.nr_findings	= RM_NR_FINDINGS,
	.figures	= rmap_figures,
	.nr_figures	= RM_NR_FIGURES,
	.verify		= rmap_verify,
};

static int __init rmap_init(void)
{
	return mm_verify_register(&rmap_verifier);
}
late_initcall(rmap_init);
