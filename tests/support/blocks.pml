/* Processes that take units in advance, and spend them later without a write.
 *
 * Time is counted in the refill of one unit, from 1. A process plans a write on the bucket as it saw it last, however old that is.
 * The request arrives later, and its answer later still; so a lost answer is one that comes when the item is read. The units of a
 * block may be spent until HORIZON after the plan of its write, and are lost then. Every plan leaves room for the refill of that
 * time. ADR-180 has the rules; core/limits/account.py and commit/allotment.py are the code. Refunds of what was spent are left out.
 *
 * The observer knows nothing of blocks: its level rises by one for each unit that is spent, and falls by one with each moment.
 */

#ifndef PROCESSES
#define PROCESSES 2
#endif
#ifndef LAST
#define LAST 6      /* the last moment; the first is 1 */
#endif
#ifndef CAPACITY
#define CAPACITY 4
#endif
#ifndef HORIZON
#define HORIZON 2
#endif
#ifndef WRITES
#define WRITES 2    /* of each process */
#endif
#define MOST 2      /* units of one block */

#ifdef BUG_FULL_WINDOW
#define WINDOW CAPACITY
#else
#define WINDOW (CAPACITY - HORIZON)
#endif
#define MAX(a, b) (a > b -> a : b)

typedef Block { byte units, at };
typedef Process {
	byte view, writes;
	byte asked, at;     /* the request under way: its units, and when it was planned */
	bool idle, taken;   /* what it guessed of the bucket; whether it was applied and not answered yet */
	Block held[WRITES]
};

byte now = 1, tat, level;
Process p[PROCESSES];

#ifdef BUG_LASTING
#define ALIVE(block) (block.units > 0)
#else
#define ALIVE(block) (block.units > 0 && now < block.at + HORIZON)
#endif

inline plan(i, units) {
	p[i].asked = units;
	p[i].at = now;
	p[i].idle = p[i].view <= now
}

/* The condition of a request is that of its plan, whenever it arrives. */
inline arrive(i) {
	if
	:: p[i].idle && tat <= p[i].at -> tat = p[i].at + p[i].asked; p[i].taken = true
	:: !p[i].idle && tat > 0 && tat + p[i].asked <= p[i].at + WINDOW -> tat = tat + p[i].asked; p[i].taken = true
	:: else -> p[i].asked = 0
	fi;
	p[i].view = tat
}

inline answer(i) {
	p[i].held[p[i].writes].units = p[i].asked;
#ifdef BUG_DATED_BY_ITS_ANSWER
	p[i].held[p[i].writes].at = now;
#else
	p[i].held[p[i].writes].at = p[i].at;
#endif
	p[i].writes++;
	p[i].asked = 0;
	p[i].taken = false
}

inline spend(i, place) {
	p[i].held[place].units--;
	level++;
	assert(level <= CAPACITY)
}

active [PROCESSES] proctype process() {
	byte i = _pid, units, place;
end:
	do
	:: atomic { p[i].asked == 0 && p[i].writes < WRITES ->
		select(units : 1 .. MOST);
		if
		:: MAX(p[i].view, now) + units <= now + WINDOW -> plan(i, units)
		:: else -> p[i].view = tat
		fi;
		units = 0 }
	:: atomic { p[i].asked > 0 && !p[i].taken -> arrive(i) }
	:: atomic { p[i].taken -> answer(i) }
	:: atomic { ALIVE(p[i].held[0]) -> spend(i, 0) }
	:: atomic { WRITES > 1 && ALIVE(p[i].held[1]) -> spend(i, 1) }
#ifdef BUG_RETURNED
	/* What has not been spent goes back whole when it dies. */
	:: atomic { p[i].held[0].units > 0 && !ALIVE(p[i].held[0]) ->
		tat = (tat > p[i].held[0].units -> tat - p[i].held[0].units : 0);
		p[i].held[0].units = 0 }
#else
	:: atomic { p[i].held[0].units > 0 && !ALIVE(p[i].held[0]) -> p[i].held[0].units = 0; p[i].held[0].at = 0 }
#endif
	:: atomic { WRITES > 1 && p[i].held[1].units > 0 && !ALIVE(p[i].held[1]) -> p[i].held[1].units = 0; p[i].held[1].at = 0 }
	od
}

active proctype clock() {
end:
	do
	:: now < LAST -> atomic { now++; level = (level > 0 -> level - 1 : 0) }
	od
}
