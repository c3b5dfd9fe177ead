// SPDX-License-Identifier: GPL-2.0
/*
 * A free buddy spans two pageblocks and the second is isolated. Is its half on the
 * list of isolated pages before anyone can allocate it, and does NR_FREE_PAGES stay
 * what the lists hold? README.md says what stands for what, and what the trails
 * show.
 *
 * expect: BASE refuted misplaced, BASE+HANDED_OUT refuted handed_out
 * expect: BASE+COUNTERS refuted nr_free_pages, SERIES proven
 */
mtype = { MIGRATE_MOVABLE, MIGRATE_ISOLATE };

#define hold_zone_lock	atomic

/* Two pageblocks, first and second; sizes and counts are in pageblocks. */
mtype block[2] = MIGRATE_MOVABLE;
mtype list[2] = MIGRATE_MOVABLE;	/* of the free buddy that begins in a block */
byte size[2];				/* and its size, 0: none begins here */
short nr_free_pages;

/* Of use in one hold only. */
byte listed;
bool misplaced, handed_out;

#define free_on(b, mt)	(size[b] && list[b] == mt)
#define straddles	(size[0] == 2)

/* What must hold whenever zone->lock is free: the end of every hold. */
inline audit()
{
	d_step {
		misplaced = (size[0] && list[0] != block[0]) ||
			    (size[1] && list[1] != block[1]) ||
			    (straddles && list[0] != block[1]);
		listed = (free_on(0, MIGRATE_MOVABLE) -> size[0] : 0) +
			 (free_on(1, MIGRATE_MOVABLE) -> size[1] : 0);
#if !defined(HANDED_OUT) && !defined(COUNTERS)
		assert(!misplaced);
#endif
#ifndef COUNTERS
		assert(!handed_out);
#endif
#ifndef HANDED_OUT
		assert(nr_free_pages == listed);
#endif
		misplaced = false; handed_out = false; listed = 0
	}
}

inline add_to_free_list(head, nr, mt)
{
	size[head] = nr;
	list[head] = mt
}

inline del_page_from_free_list(head)
{
	size[head] = 0;
	list[head] = MIGRATE_MOVABLE
}

inline free_one_page(page)
{
	nr_free_pages = nr_free_pages + (block[page] != MIGRATE_ISOLATE);
	if
	:: size[1 - page] && block[0] == block[1] ->	/* merges */
		del_page_from_free_list(1 - page);
		add_to_free_list(0, 2, block[page])
	:: else ->
		add_to_free_list(page, 1, block[page])
	fi
}

inline rmqueue(page)
{
	if
	:: free_on(0, MIGRATE_MOVABLE) && !straddles -> page = 0
	:: free_on(1, MIGRATE_MOVABLE) -> page = 1
	:: straddles -> page = 0; add_to_free_list(1, 1, list[0])	/* expand() */
	fi;
	handed_out = block[page] == MIGRATE_ISOLATE;
	del_page_from_free_list(page);
	nr_free_pages--
}

/* Has a pageblock, frees it, allocates one. */
active [2] proctype cpu()
{
	byte b = _pid;

	do
	:: hold_zone_lock {
		free_one_page(b);
		b = 0;
		audit()
	   }
	   hold_zone_lock {
		free_on(0, MIGRATE_MOVABLE) || free_on(1, MIGRATE_MOVABLE) ->
		rmqueue(b);
		audit()
	   }
	od
}

/* Isolates the second block, takes it when it is free, and undoes both. */
active proctype alloc_contig()
{
	bool taken;

	do
	:: hold_zone_lock {
#ifdef SERIES
		if
		:: straddles ->
			add_to_free_list(0, 1, MIGRATE_MOVABLE);
			add_to_free_list(1, 1, MIGRATE_MOVABLE)
		:: else
		fi;
#endif
		block[1] = MIGRATE_ISOLATE;
		if
		:: size[1] -> list[1] = MIGRATE_ISOLATE; nr_free_pages--
		:: else
		fi;
		audit()
	   }
#ifdef BASE
	   /* isolate_single_pageblock() looks and split_free_page() takes zone->lock again */
	   do
	   :: straddles ->
	      hold_zone_lock {
		if
		:: straddles ->
			nr_free_pages = nr_free_pages - 2;
			del_page_from_free_list(0);
			free_one_page(0);
			free_one_page(1)
		:: else
		fi;
		audit()
	      }
	   :: else -> break
	   od;
#endif
	   if
	   :: hold_zone_lock {	/* __isolate_free_page() */
		size[1] ->
		del_page_from_free_list(1);
		taken = true;
		audit()
	      }
	   :: true
	   fi;

	   hold_zone_lock {	/* unset_migratetype_isolate() */
		block[1] = MIGRATE_MOVABLE;
		if
		:: size[1] ->
			del_page_from_free_list(1);
			free_one_page(1)
		:: else
		fi;
		audit()
	   }

	   hold_zone_lock {
		if
		:: taken -> taken = false; free_one_page(1)
		:: else
		fi;
		audit()
	   }
	od
}
