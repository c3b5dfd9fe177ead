/* SPDX-License-Identifier: GPL-2.0 */
/* Between the passes of the rmap verifier, and its injections. */
#ifndef _MM_VERIFY_RMAP_H
#define _MM_VERIFY_RMAP_H

#include <linux/mm.h>
#include <linux/rmap.h>

#include "verify.h"

enum rmap_finding {
	RM_UNMAPPED,		/* an entry maps a page that counts no mapping */
	RM_ANON_VMA,		/* page's anon_vma is not one of the VMA's */
	RM_INDEX,		/* page's index is not that of the address */
	RM_FILE,		/* page belongs to another file than the VMA */
	RM_ANON_TREE,		/* VMA is not to be found in the anon_vma's tree */
	RM_FILE_TREE,		/* VMA is not to be found in the file's tree */
	RM_DEAD,		/* anon_vma of a VMA or of a mapped page is freed */
	RM_TOO_MANY,		/* mapcount is above the entries that rmap finds */
	RM_TOO_FEW,		/* mapcount is below them */
	RM_NEGATIVE,		/* mapcount is negative */
	RM_DOUBLE_MAP,		/* PageDoubleMap without a PMD that maps it */
	RM_NR_FINDINGS,
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

/* Page tables that several hugetlb VMAs share are counted once: up to so many. */
#define RM_MAX_SHARED	64

/**
 * struct rm_folio - one folio, and what its reverse map leads to
 * @run: where findings go
 * @folio: the folio, locked and with a reference
 * @anon_vma: its anon_vma, locked; NULL for a file's folio
 * @mapping: its file's mapping, its tree locked; NULL for an anonymous one
 * @stopped: all other CPUs are stopped
 * @once: leave out an entry that an earlier VMA of the walk led to
 * @report: count what is found as a violation
 * @unsure: something was seen that rmap does not promise to find
 * @agrees: mapcounts and entries are the same
 * @excess: a page has more entries than it counts
 * @vmas: VMAs visited
 * @pmds: PMD entries, or for hugetlb entries of any size
 * @ptes: PTE entries of each page of the folio
 * @shared: hugetlb entries seen in shared page tables
 * @nr_shared: how many
 */
struct rm_folio {
	struct mm_verify_run *run;
	struct folio *folio;
	struct anon_vma *anon_vma;
	struct address_space *mapping;
	bool stopped;
	bool once;
	bool report;
	bool unsure;
	bool agrees;
	bool excess;
	unsigned long vmas;
	unsigned int pmds;
	unsigned int ptes[MAX_ORDER_NR_PAGES];
	pte_t *shared[RM_MAX_SHARED];
	unsigned int nr_shared;
};

/**
 * struct rm_entry - a page-table entry that maps a page
 * @vma: the VMA, its mm's mmap_lock held
 * @address: the address
 * @page: the page; NULL when there is no entry
 * @whole: the entry maps the whole folio
 */
struct rm_entry {
	struct vm_area_struct *vma;
	unsigned long address;
	struct page *page;
	bool whole;
};

static inline int rm_raw_mapcount(struct page *page)
{
	return atomic_read(&page->_mapcount);
}

/* A hugetlb folio has only this one. */
static inline int rm_raw_whole(struct folio *folio)
{
	return folio_test_large(folio) ?
	       atomic_read(folio_mapcount_ptr(folio)) : -1;
}

void rm_check_entry(struct mm_verify_run *run, const struct rm_entry *entry);
void rm_check_anon_tree(struct mm_verify_run *run, struct anon_vma_chain *avc);
void rm_check_file_tree(struct mm_verify_run *run, struct vm_area_struct *vma);
void rm_check_folio(struct rm_folio *f);
struct page *rm_pte_page(struct vm_area_struct *vma, unsigned long address,
			 pte_t pte);
int rm_walk(struct mm_verify_run *run);
int rm_scan_zone(struct mm_verify_run *run, struct zone *zone);

#ifdef CONFIG_DEBUG_VM_VERIFY_INJECT
void rm_inject_candidate(struct mm_verify_run *run,
			 const struct rm_entry *entry);
void rm_inject_entry(struct mm_verify_run *run);
void rm_inject_trees(struct mm_verify_run *run, struct vm_area_struct *vma);
bool rm_inject_wants(struct rm_folio *f);
void rm_inject_plant(struct rm_folio *f);
void rm_inject_undo(struct rm_folio *f);
#else
static inline void rm_inject_candidate(struct mm_verify_run *run,
				       const struct rm_entry *entry)
{
}

static inline void rm_inject_entry(struct mm_verify_run *run)
{
}

static inline void rm_inject_trees(struct mm_verify_run *run,
				   struct vm_area_struct *vma)
{
}

static inline bool rm_inject_wants(struct rm_folio *f)
{
	return false;
}

static inline void rm_inject_plant(struct rm_folio *f)
{
}

static inline void rm_inject_undo(struct rm_folio *f)
{
}
#endif

#endif /* _MM_VERIFY_RMAP_H */
