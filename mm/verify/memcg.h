/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between the memcg verifier, its injections, and mm/memcontrol.c, which keeps
 * its counters to itself.
 */
#ifndef _MM_VERIFY_MEMCG_H
#define _MM_VERIFY_MEMCG_H

#include <linux/mmzone.h>
#include <linux/types.h>

#include "verify.h"

struct mem_cgroup;

/* Findings; those before MA_NR_ITEMS are one counter each. */
enum memcg_finding {
	MA_ANON_MAPPED,
	MA_FILE_MAPPED,
	MA_FILE_PAGES,
	MA_SHMEM,
	MA_FILE_DIRTY,
	MA_WRITEBACK,
	MA_SWAPCACHE,
	MA_ANON_THPS,
	MA_SHMEM_THPS,
	MA_FILE_THPS,
	MA_SHMEM_PMDMAPPED,
	MA_FILE_PMDMAPPED,
	MA_NR_ITEMS,
	MA_NEGATIVE = MA_NR_ITEMS,	/* below zero, which readers do not see */
	MA_NODES,		/* the group's sum is right, a node's is not */
	MA_HIERARCHY,		/* not the sum over the group and those below */
	MA_NR_FINDINGS,
};

unsigned long memcg_audit_seq(struct mem_cgroup *memcg);
unsigned int *memcg_audit_slot(struct mem_cgroup *memcg);
long memcg_audit_local(struct mem_cgroup *memcg, enum node_stat_item idx);
long memcg_audit_node(struct mem_cgroup *memcg, int nid,
		      enum node_stat_item idx);
long memcg_audit_tree(struct mem_cgroup *memcg, enum node_stat_item idx);
void memcg_audit_plant(struct mem_cgroup *memcg, int nid,
		       enum node_stat_item idx, enum memcg_finding finding,
		       long delta);

#endif /* _MM_VERIFY_MEMCG_H */
