// SPDX-License-Identifier: GPL-2.0
/*
 * The rmap verifier's scan: every mapped folio, by pfn.  The entries that its
 * reverse map leads to are counted, and compared with its mapcounts.
 *
 * No lock pins a mapcount.  But entry and mapcount change in one hold of a
 * page-table lock, which is a spinlock: when all CPUs are stopped, nobody is in
 * between.  So the scan counts with the CPUs running first, and stops them for
 * a folio that did not add up.
 */
#include <linux/cpu.h>
#include <linux/hugetlb.h>
#include <linux/jiffies.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmzone.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/stop_machine.h>
#include <linux/uaccess.h>

#include "../internal.h"
#include "rmap.h"

/* How often a folio is counted with the CPUs running, or its lock is tried. */
#define RM_TRIES	3
/* How many pfns are looked at between pauses. */
#define RM_BATCH	1024UL
/* Of so many VMAs each is compared with all before it, the CPUs stopped. */
#define RM_MAX_ONCE	1000UL

/* Too big for the stack; the core runs one verifier at a time. */
static struct rm_folio rm_folio;

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

/**
 * rm_scan_zone - check every mapped folio of a zone
 * @run: the run
 * @zone: the zone; get_online_mems() and cpus_read_lock() are held
 *
 * Return: 0, or what ends the run.
 */
int rm_scan_zone(struct mm_verify_run *run, struct zone *zone)
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
