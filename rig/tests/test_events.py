# SPDX-License-Identifier: GPL-2.0
"""events.py: what it reads, compares and refuses; no kernel and no QEMU."""
import unittest

from rig import common, events

COUNTS = ('rc=0 ms=900 lru_lock=5000 pgscan_file=30000 pgsteal_file=20000 pgscan_anon=0 '
          'pgsteal_anon=0 nr_vmscan_write=0 nr_throttled_written=7 mm_vmscan_throttled=3 '
          'folio_wait_writeback=40')
GOOD = f'mm-lockstep-events 1 v1\njob write.classic {COUNTS}\njob read.gens {COUNTS}\nend\n'


def counts(**changed):
    """The counts of one job."""
    return {**events.parse(GOOD)['read.gens'], **changed}


class Parse(unittest.TestCase):
    """What the guest printed."""

    def refuses(self, text, why):
        """parse() fails and says why."""
        with self.assertRaises(common.Fail) as e:
            events.parse(text, 'here')
        self.assertIn(why, str(e.exception))

    def test_reads_every_count(self):
        """Also with the line ends of a serial port."""
        got = events.parse(GOOD.replace('\n', '\r\n'))
        self.assertEqual(list(got), ['write.classic', 'read.gens'])
        self.assertEqual(got['write.classic']['lru_lock'], 5000)
        self.assertEqual(got['write.classic']['folio_wait_writeback'], 40)

    def test_refuses_what_it_cannot_trust(self):
        """Nothing of it may pass for a result."""
        self.refuses('', 'did not run')
        self.refuses(GOOD.replace(' 1 v1', ' 2 v1'), 'did not run')
        self.refuses(GOOD[:-5], 'cut off after 2 jobs')
        self.refuses(GOOD.replace('ms=900', 'ms=soon', 1), 'no line of a job')
        self.refuses(GOOD.replace('read.gens', 'write.classic'), 'no line of a job')
        self.refuses(GOOD.replace(f'job read.gens {COUNTS}', 'job read.gens'), 'no line of a job')
        self.refuses('mm-lockstep-events 1 v1\nerror no ext4\n', 'the guest stopped: no ext4')


class Compare(unittest.TestCase):
    """Base against series."""

    def test_equal_is_right(self):
        """Each figure of each job is a row."""
        rows, wrong = events.compare({'a': [counts()]}, {'a': [counts(), counts()]})
        self.assertEqual((len(rows), wrong), (len(events.FIGURES), []))
        self.assertIn(('a', 'scanned', 1.5, 1.5), rows)
        self.assertIn('1.500', events.table(rows))

    def test_what_is_worse_is_named(self):
        """More locks, more scanning, a job that failed, more sleeps; and a job not run."""
        for changed, why in (({'lru_lock': 5300}, 'acquisitions'), ({'pgscan_file': 32000}, 'scanned'),
                             ({'rc': 137}, 'did not end well'),
                             ({'mm_vmscan_throttled': 90}, 'sleeps')):
            with self.subTest(why):
                _, wrong = events.compare({'a': [counts()]}, {'a': [counts(**changed)]})
                self.assertEqual(len(wrong), 1, wrong)
                self.assertIn(why, wrong[0])
        self.assertEqual(len(events.compare({'a': [counts()]}, {'b': [counts()]})[1]), 2)

    def test_killed_on_the_base(self):
        """What the base did not get through is no measure; the series has to, all the same."""
        dead = counts(rc=137, pgscan_file=0, pgsteal_file=0)
        self.assertEqual(events.compare({'a': [dead]}, {'a': [counts()]})[1], [])
        self.assertEqual(events.compare({'a': [dead]}, {'a': [dead]})[1], [])

    def test_nothing_reclaimed(self):
        """No division by nothing."""
        none = counts(pgscan_file=0, pgsteal_file=0, lru_lock=0)
        rows, wrong = events.compare({'a': [none]}, {'a': [none]})
        self.assertEqual(wrong, [])
        self.assertIn('-', events.table(rows))
