// SPDX-License-Identifier: GPL-2.0
/*
 * Injections of the rmap verifier.
 *
 * Others read mapcounts, folio->mapping and refcounts without a lock.  So those
 * are spoilt while all CPUs are stopped, judged by what judges them in a walk,
 * and restored before a CPU goes on.  The trees of VMAs are spoilt and judged in
 * one hold of their lock for write, under which nobody else reads them.
 */
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/rmap.h>
#include <linux/stop_machine.h>

#include "../internal.h"
#include "rmap.h"

/* Only their addresses are used. */
static struct address_space other_mapping;
static struct anon_vma other_anon_vma;

/* The entry to be spoilt; one run at a time is enough. */
static struct rm_entry chosen;

/* What the folio that is being judged had. */
static struct {
	atomic_t *mapcount;
	int raw;
} spoilt;

/**
 * rm_inject_candidate - remember an entry that the finding can be planted on
 * @run: the run
 * @entry: the entry, its page-table lock held
 */
void rm_inject_candidate(struct mm_verify_run *run,
			 const struct rm_entry *entry)
{
	struct folio *folio = page_folio(entry->page);

	if (run->planted || chosen.page)
		return;
	switch (run->inject) {
	case RM_UNMAPPED:
	case RM_INDEX:
		break;
	case RM_ANON_VMA:
		if (!folio_test_anon(folio) || folio_test_ksm(folio))
			return;
		break;
	case RM_FILE:
		if (folio_test_anon(folio))
			return;
		break;
	default:
		return;
	}
	chosen = *entry;
}

/* Is it still there? The page may be gone, so only its address is used. */
static bool rm_still_mapped(const struct rm_entry *entry)
{
	struct vm_area_struct *vma = entry->vma;
	struct page_vma_mapped_walk pvmw = {
		.pfn = page_to_pfn(entry->page),
		.nr_pages = 1,
		.vma = vma,
		.address = entry->address,
		.flags = PVMW_SYNC,
	};
	bool whole;

	if (!page_vma_mapped_walk(&pvmw))
		return false;
	whole = !pvmw.pte || is_vm_hugetlb_page(vma);
	/* A page is there once: nothing more is found, and the lock dropped. */
	while (page_vma_mapped_walk(&pvmw))
		;
	return whole == entry->whole;
}

static int rm_entry_stopped(void *data)
{
	struct mm_verify_run *run = data;
	struct folio *folio;
	struct address_space *mapping;
	atomic_t *mapcount;
	int raw;

	if (!rm_still_mapped(&chosen))
		return 0;
	folio = page_folio(chosen.page);
	mapping = folio->mapping;
	run->planted = chosen.page;
	switch (run->inject) {
	case RM_UNMAPPED:
		mapcount = chosen.whole ? folio_mapcount_ptr(folio) :
					  &chosen.page->_mapcount;
		raw = atomic_read(mapcount);
		atomic_set(mapcount, -1);
		rm_check_entry(run, &chosen);
		atomic_set(mapcount, raw);
		break;
	case RM_ANON_VMA:
		folio->mapping = (void *)&other_anon_vma + PAGE_MAPPING_ANON;
		rm_check_entry(run, &chosen);
		folio->mapping = mapping;
		break;
	case RM_FILE:
		folio->mapping = &other_mapping;
		rm_check_entry(run, &chosen);
		folio->mapping = mapping;
		break;
	case RM_INDEX:
		folio->index++;
		rm_check_entry(run, &chosen);
		folio->index--;
		break;
	}
	return 0;
}

/**
 * rm_inject_entry - spoil the entry that was remembered, and judge it
 * @run: the run; planted is set when something was
 *
 * Called with mmap_lock and cpus_read_lock() held.
 */
void rm_inject_entry(struct mm_verify_run *run)
{
	if (chosen.page)
		stop_machine_cpuslocked(rm_entry_stopped, run, NULL);
	chosen.page = NULL;
}

static int rm_dead_stopped(void *data)
{
	struct anon_vma_chain *avc = list_first_entry(&chosen.vma->anon_vma_chain,
						      struct anon_vma_chain,
						      same_vma);
	struct mm_verify_run *run = data;
	int refcount = atomic_read(&avc->anon_vma->refcount);

	run->planted = avc->anon_vma;
	atomic_set(&avc->anon_vma->refcount, 0);
	rm_check_anon_tree(run, avc);
	atomic_set(&avc->anon_vma->refcount, refcount);
	return 0;
}

/**
 * rm_inject_trees - take a VMA out of a tree, judge it, and put it back
 * @run: the run; planted is set when something was
 * @vma: the VMA, its mm's mmap_lock and cpus_read_lock() held
 */
void rm_inject_trees(struct mm_verify_run *run, struct vm_area_struct *vma)
{
	struct anon_vma *anon_vma = READ_ONCE(vma->anon_vma);
	struct address_space *mapping;
	struct anon_vma_chain *avc;

	if (run->planted)
		return;
	switch (run->inject) {
	case RM_ANON_TREE:
		if (!anon_vma)
			return;
		anon_vma_lock_write(anon_vma);
		avc = list_first_entry(&vma->anon_vma_chain,
				       struct anon_vma_chain, same_vma);
		run->planted = avc;
		anon_vma_interval_tree_remove(avc, &avc->anon_vma->rb_root);
		rm_check_anon_tree(run, avc);
		anon_vma_interval_tree_insert(avc, &avc->anon_vma->rb_root);
		anon_vma_unlock_write(anon_vma);
		break;
	case RM_FILE_TREE:
		if (!vma->vm_file)
			return;
		mapping = vma->vm_file->f_mapping;
		i_mmap_lock_write(mapping);
		run->planted = vma;
		flush_dcache_mmap_lock(mapping);
		vma_interval_tree_remove(vma, &mapping->i_mmap);
		flush_dcache_mmap_unlock(mapping);
		rm_check_file_tree(run, vma);
		flush_dcache_mmap_lock(mapping);
		vma_interval_tree_insert(vma, &mapping->i_mmap);
		flush_dcache_mmap_unlock(mapping);
		i_mmap_unlock_write(mapping);
		break;
	case RM_DEAD:
		if (!anon_vma)
			return;
		anon_vma_lock_read(anon_vma);
		chosen.vma = vma;
		stop_machine_cpuslocked(rm_dead_stopped, run, NULL);
		anon_vma_unlock_read(anon_vma);
		break;
	}
}

/**
 * rm_inject_wants - is this the folio to spoil?
 * @f: a folio that is about to be counted
 */
bool rm_inject_wants(struct rm_folio *f)
{
	struct folio *folio = f->folio;

	if (f->run->planted)
		return false;
	switch (f->run->inject) {
	case RM_TOO_MANY:
	case RM_TOO_FEW:
	case RM_NEGATIVE:
		return folio_mapped(folio);
	case RM_DOUBLE_MAP:
		return f->anon_vma && folio_test_large(folio) &&
		       !folio_test_hugetlb(folio) && folio_mapped(folio) &&
		       !folio_entire_mapcount(folio);
	default:
		return false;
	}
}

/**
 * rm_inject_plant - spoil a mapcount
 * @f: the folio; all CPUs are stopped
 */
void rm_inject_plant(struct rm_folio *f)
{
	struct folio *folio = f->folio;

	spoilt.mapcount = NULL;
	if (!rm_inject_wants(f))
		return;
	f->run->planted = folio;
	if (f->run->inject == RM_DOUBLE_MAP) {
		SetPageDoubleMap(&folio->page);
		return;
	}

	spoilt.mapcount = folio_test_large(folio) ? folio_mapcount_ptr(folio) :
						    &folio->_mapcount;
	spoilt.raw = atomic_read(spoilt.mapcount);
	switch (f->run->inject) {
	case RM_TOO_MANY:
		atomic_inc(spoilt.mapcount);
		break;
	case RM_TOO_FEW:
		/* Of a folio that is mapped by PTEs alone: one below none. */
		if (spoilt.raw < 0) {
			spoilt.mapcount = NULL;
			f->run->planted = NULL;
			return;
		}
		atomic_dec(spoilt.mapcount);
		break;
	case RM_NEGATIVE:
		atomic_set(spoilt.mapcount, -5);
		break;
	}
}

/**
 * rm_inject_undo - undo rm_inject_plant()
 * @f: the folio; the CPUs were not let go on since
 */
void rm_inject_undo(struct rm_folio *f)
{
	if (f->run->planted != f->folio)
		return;
	if (f->run->inject == RM_DOUBLE_MAP)
		ClearPageDoubleMap(&f->folio->page);
	else if (spoilt.mapcount)
		atomic_set(spoilt.mapcount, spoilt.raw);
}
