// SPDX-License-Identifier: GPL-2.0
/*
 * Verifier of the reverse map: page-table entries, mapcounts, and the trees
 * that lead from a page to the VMAs that map it.
 *
 * Two passes, in opposite directions: rm_walk() goes from the page tables to the
 * pages, rm_scan_zone() from the pages to the page tables.
 *
 * See Documentation/mm/verify.rst.
 */
#include <linux/cpu.h>
#include <linux/init.h>
#include <linux/memory_hotplug.h>
#include <linux/mmzone.h>

#include "rmap.h"

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
