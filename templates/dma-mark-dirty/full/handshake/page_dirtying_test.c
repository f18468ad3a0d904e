// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the answers to a hypervisor that asks for page dirtying. The
 * hypervisor is this file: configuration space is an array behind a bus.
 */
#include <kunit/test.h>

/* Where the capabilities are. The first one is of another type. */
#define TEST_OTHER	0x40
#define TEST_POS	0x60

#define TEST_HEADER(length, type) \
	(PCI_CAP_ID_VNDR | (length) << 16 | (u32)(type) << 24)
#define TEST_INFO(version, poll) \
	((version) | 0xff << 8 | (u32)(poll) << 16)

struct test_write {
	int reg;
	u32 val;
	int wishes;	/* at that time */
};

struct test_bridge {
	struct pci_bus bus;
	struct pci_dev dev;
	struct page_dirtying pd;
	u32 config[PCI_CFG_SPACE_SIZE / 4];
	bool gone;
	int reads;
	int writes;
	struct test_write log[4];	/* the first writes */
};

/* For each test there are two bridges. */
struct page_dirtying_test {
	struct test_bridge bridge[2];
	int wishes;
	bool was_armed;
};

static int test_wishes(void)
{
	return static_key_count(&dma_mark_dirty_active.key);
}

static u32 *test_reg(struct test_bridge *b, int reg)
{
	return &b->config[(TEST_POS + reg) / 4];
}

static int test_read_config(struct pci_bus *bus, unsigned int devfn, int where,
			    int size, u32 *val)
{
	struct test_bridge *b = container_of(bus, struct test_bridge, bus);

	b->reads++;
	*val = b->gone ? U32_MAX : b->config[where / 4] >> 8 * (where % 4);
	if (size < 4)
		*val &= BIT(8 * size) - 1;

	return PCIBIOS_SUCCESSFUL;
}

static int test_write_config(struct pci_bus *bus, unsigned int devfn, int where,
			     int size, u32 val)
{
	struct test_bridge *b = container_of(bus, struct test_bridge, bus);
	u32 *request = test_reg(b, PAGE_DIRTYING_REQUEST);
	int reg = where - TEST_POS;

	if (b->writes < ARRAY_SIZE(b->log))
		b->log[b->writes] = (struct test_write) {
			reg, val, test_wishes()
		};
	b->writes++;

	if (size != 4 || (reg != PAGE_DIRTYING_GUEST &&
			  reg != PAGE_DIRTYING_ANSWER))
		return PCIBIOS_SUCCESSFUL;

	*test_reg(b, reg) = val;
	if (reg == PAGE_DIRTYING_ANSWER &&
	    !((val ^ *request) & PAGE_DIRTYING_GENERATION))
		*request &= ~PAGE_DIRTYING_ATTENTION;

	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops test_ops = {
	.read = test_read_config,
	.write = test_write_config,
};

static u32 test_word(u32 state, u32 generation)
{
	return state | generation << 8;
}

static void test_ask(struct test_bridge *b, u32 state, u32 generation)
{
	*test_reg(b, PAGE_DIRTYING_REQUEST) = test_word(state, generation) |
					      PAGE_DIRTYING_ATTENTION;
}

/* Look once, and count what that does. */
static void test_poll(struct test_bridge *b)
{
	b->reads = 0;
	b->writes = 0;
	page_dirtying_poll(&b->pd);
}

/* The answer, both registers and in order, and how many ask for marking then. */
static void test_expect_answer(struct kunit *test, struct test_bridge *b,
			       u32 guest, u32 answer, int wishes)
{
	struct page_dirtying_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, b->reads, 1);
	KUNIT_ASSERT_EQ(test, b->writes, 2);
	KUNIT_EXPECT_EQ(test, b->log[0].reg, PAGE_DIRTYING_GUEST);
	KUNIT_EXPECT_EQ(test, b->log[0].val, guest);
	KUNIT_EXPECT_EQ(test, b->log[1].reg, PAGE_DIRTYING_ANSWER);
	KUNIT_EXPECT_EQ(test, b->log[1].val, answer);
	KUNIT_EXPECT_EQ(test, b->log[1].wishes - t->wishes, wishes);
	KUNIT_EXPECT_EQ(test, test_wishes() - t->wishes, wishes);
}

/* One read of 32 bits, and nothing else. */
static void test_expect_quiet(struct kunit *test, struct test_bridge *b,
			      int wishes)
{
	struct page_dirtying_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, b->reads, 1);
	KUNIT_EXPECT_EQ(test, b->writes, 0);
	KUNIT_EXPECT_EQ(test, test_wishes() - t->wishes, wishes);
}

#define TEST_GUEST	(PAGE_DIRTYING_DRIVER | PAGE_DIRTYING_STREAMING)

/* A bridge as it is after the host has asked for something, and was answered. */
static struct test_bridge *test_answered(struct kunit *test, int nr, u32 state,
					 u32 generation)
{
	struct page_dirtying_test *t = test->priv;
	struct test_bridge *b = &t->bridge[nr];

	KUNIT_ASSERT_TRUE(test, page_dirtying_find(&b->pd, &b->dev));
	test_ask(b, state, generation);
	test_poll(b);
	KUNIT_ASSERT_EQ(test, *test_reg(b, PAGE_DIRTYING_ANSWER),
			test_word(state, generation));

	return b;
}

static void page_dirtying_test_find(struct kunit *test)
{
	static const struct {
		const char *name;
		u32 header, info;
		bool found;
	} cases[] = {
		{ "version 1", TEST_HEADER(0x20, 2), TEST_INFO(1, 50), true },
		{ "smallest", TEST_HEADER(0x14, 2), TEST_INFO(1, 50), true },
		{ "later version", TEST_HEADER(0xa0, 2), TEST_INFO(7, 50), true },
		{ "too short", TEST_HEADER(0x13, 2), TEST_INFO(1, 50) },
		{ "no length", TEST_HEADER(0, 2), TEST_INFO(1, 50) },
		{ "too long", TEST_HEADER(0xa1, 2), TEST_INFO(1, 50) },
		{ "other type", TEST_HEADER(0x20, 1), TEST_INFO(1, 50) },
		{ "version 0", TEST_HEADER(0x20, 2), TEST_INFO(0, 50) },
		{ "all ones", TEST_HEADER(0x20, 2), U32_MAX },
	};
	struct page_dirtying_test *t = test->priv;
	struct test_bridge *b = &t->bridge[0];
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		*test_reg(b, PAGE_DIRTYING_HEADER) = cases[i].header;
		*test_reg(b, PAGE_DIRTYING_INFO) = cases[i].info;
		KUNIT_EXPECT_EQ_MSG(test, page_dirtying_find(&b->pd, &b->dev),
				    cases[i].found, "%s", cases[i].name);
		if (!cases[i].found)
			continue;
		KUNIT_EXPECT_EQ(test, (int)b->pd.pos, TEST_POS);
		KUNIT_EXPECT_EQ(test, b->pd.poll, 50U);
	}

	/* Finding is not answering. */
	KUNIT_EXPECT_EQ(test, b->writes, 0);

	b->gone = true;
	KUNIT_EXPECT_FALSE(test, page_dirtying_find(&b->pd, &b->dev));
}

static void page_dirtying_test_interval(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, page_dirtying_interval(0), 100U);
	KUNIT_EXPECT_EQ(test, page_dirtying_interval(1), 10U);
	KUNIT_EXPECT_EQ(test, page_dirtying_interval(10), 10U);
	KUNIT_EXPECT_EQ(test, page_dirtying_interval(250), 250U);
	KUNIT_EXPECT_EQ(test, page_dirtying_interval(10000), 10000U);
	KUNIT_EXPECT_EQ(test, page_dirtying_interval(10001), 10000U);
	KUNIT_EXPECT_EQ(test, page_dirtying_interval(U16_MAX), 10000U);
}

/* A migration as it should be. Marking is on when ACTIVE is answered. */
static void page_dirtying_test_migration(struct kunit *test)
{
	struct page_dirtying_test *t = test->priv;
	struct test_bridge *b = &t->bridge[0];

	KUNIT_ASSERT_TRUE(test, page_dirtying_find(&b->pd, &b->dev));

	test_ask(b, PAGE_DIRTYING_IDLE, 0);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_IDLE, 0), 0);
	test_poll(b);
	test_expect_quiet(test, b, 0);

	test_ask(b, PAGE_DIRTYING_ACTIVE, 1);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_ACTIVE, 1), 1);
	test_poll(b);
	test_expect_quiet(test, b, 1);
	test_poll(b);
	test_expect_quiet(test, b, 1);

	test_ask(b, PAGE_DIRTYING_IDLE, 2);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_IDLE, 2), 0);
	test_poll(b);
	test_expect_quiet(test, b, 0);
}

/* The first look answers also what nobody waits for. */
static void page_dirtying_test_no_attention(struct kunit *test)
{
	struct page_dirtying_test *t = test->priv;
	struct test_bridge *b = &t->bridge[0];

	KUNIT_ASSERT_TRUE(test, page_dirtying_find(&b->pd, &b->dev));
	*test_reg(b, PAGE_DIRTYING_REQUEST) =
		test_word(PAGE_DIRTYING_ACTIVE, 0);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_ACTIVE, 0), 1);
	page_dirtying_drop(&b->pd);
}

/* Generations have no order, and no answer is left out because of one. */
static void page_dirtying_test_generations(struct kunit *test)
{
	static const u32 generations[] = { 5, 4, 0x7fffff, 0, 0x400000, 1 };
	struct test_bridge *b;
	int i;

	b = test_answered(test, 0, PAGE_DIRTYING_IDLE, 100);
	for (i = 0; i < ARRAY_SIZE(generations); i++) {
		test_ask(b, PAGE_DIRTYING_ACTIVE, generations[i]);
		test_poll(b);
		test_expect_answer(test, b, TEST_GUEST,
				   test_word(PAGE_DIRTYING_ACTIVE,
					     generations[i]), 1);
	}
	page_dirtying_drop(&b->pd);
}

/* After its reset the block has forgotten what it was told, and says so. */
static void page_dirtying_test_reset(struct kunit *test)
{
	struct test_bridge *b = test_answered(test, 0, PAGE_DIRTYING_ACTIVE, 1);

	*test_reg(b, PAGE_DIRTYING_GUEST) = 0;
	*test_reg(b, PAGE_DIRTYING_ANSWER) = 0;
	test_ask(b, PAGE_DIRTYING_ACTIVE, 2);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_ACTIVE, 2), 1);

	/* Even if it were with the same generation. */
	*test_reg(b, PAGE_DIRTYING_GUEST) = 0;
	test_ask(b, PAGE_DIRTYING_ACTIVE, 2);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_ACTIVE, 2), 1);

	page_dirtying_drop(&b->pd);
}

/* A guest that wakes answers once more, and takes back what is not its own. */
static void page_dirtying_test_resume(struct kunit *test)
{
	struct test_bridge *b = test_answered(test, 0, PAGE_DIRTYING_ACTIVE, 1);

	b->writes = 0;
	page_dirtying_again(&b->pd);
	KUNIT_EXPECT_EQ(test, b->writes, 0);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_ACTIVE, 1), 1);

	/* Another kernel has answered another request. */
	*test_reg(b, PAGE_DIRTYING_REQUEST) = test_word(PAGE_DIRTYING_ACTIVE, 3);
	*test_reg(b, PAGE_DIRTYING_ANSWER) = test_word(PAGE_DIRTYING_ACTIVE, 3);
	page_dirtying_again(&b->pd);
	KUNIT_EXPECT_EQ(test, *test_reg(b, PAGE_DIRTYING_GUEST), 0U);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_ACTIVE, 3), 1);

	page_dirtying_drop(&b->pd);
}

/* Whoever asks for something new has to be told that it is not known here. */
static void page_dirtying_test_unknown_state(struct kunit *test)
{
	struct test_bridge *b = test_answered(test, 0, PAGE_DIRTYING_ACTIVE, 1);

	test_ask(b, 2, 2);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_REFUSED, 2), 0);
	test_ask(b, 0xff, 3);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_REFUSED, 3), 0);
	test_ask(b, PAGE_DIRTYING_ACTIVE, 4);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_ACTIVE, 4), 1);
	page_dirtying_drop(&b->pd);
}

/* Nothing can be read: no request is in that, and none has ended. */
static void page_dirtying_test_unreachable(struct kunit *test)
{
	struct test_bridge *b = test_answered(test, 0, PAGE_DIRTYING_ACTIVE, 1);

	b->gone = true;
	test_poll(b);
	test_expect_quiet(test, b, 1);

	b->gone = false;
	test_poll(b);
	test_expect_quiet(test, b, 1);

	/* A bridge without power is not even asked. */
	test_ask(b, PAGE_DIRTYING_IDLE, 2);
	b->dev.current_state = PCI_D3cold;
	test_poll(b);
	KUNIT_EXPECT_EQ(test, b->reads + b->writes, 0);

	b->dev.current_state = PCI_D0;
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_IDLE, 2), 0);
}

/* Marking is on while one of two asks. */
static void page_dirtying_test_two_blocks(struct kunit *test)
{
	struct test_bridge *a, *b;

	a = test_answered(test, 0, PAGE_DIRTYING_ACTIVE, 1);
	b = test_answered(test, 1, PAGE_DIRTYING_IDLE, 7);

	test_ask(b, PAGE_DIRTYING_ACTIVE, 8);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_ACTIVE, 8), 2);

	test_ask(a, PAGE_DIRTYING_IDLE, 2);
	test_poll(a);
	test_expect_answer(test, a, TEST_GUEST,
			   test_word(PAGE_DIRTYING_IDLE, 2), 1);
	KUNIT_EXPECT_TRUE(test, static_key_enabled(&dma_mark_dirty_active));

	test_ask(b, PAGE_DIRTYING_IDLE, 9);
	test_poll(b);
	test_expect_answer(test, b, TEST_GUEST,
			   test_word(PAGE_DIRTYING_IDLE, 9), 0);
}

/* A bridge that is taken away asks no more, and its answer is taken back. */
static void page_dirtying_test_removed(struct kunit *test)
{
	struct page_dirtying_test *t = test->priv;
	struct test_bridge *a, *b;

	a = test_answered(test, 0, PAGE_DIRTYING_ACTIVE, 1);
	b = test_answered(test, 1, PAGE_DIRTYING_ACTIVE, 1);

	a->gone = true;
	page_dirtying_drop(&a->pd);
	KUNIT_EXPECT_EQ(test, test_wishes() - t->wishes, 1);

	/* Of one that is still there, the hypervisor hears it first. */
	b->writes = 0;
	page_dirtying_drop(&b->pd);
	KUNIT_EXPECT_EQ(test, b->writes, 1);
	KUNIT_EXPECT_EQ(test, b->log[0].wishes - t->wishes, 1);
	KUNIT_EXPECT_EQ(test, *test_reg(b, PAGE_DIRTYING_GUEST), 0U);
	KUNIT_EXPECT_EQ(test, test_wishes() - t->wishes, 0);
}

/* A guest that cannot mark does not say that it can. */
static void page_dirtying_test_not_armed(struct kunit *test)
{
	struct page_dirtying_test *t = test->priv;
	struct test_bridge *b = &t->bridge[0];

	__dma_mark_dirty_armed = false;
	KUNIT_ASSERT_TRUE(test, page_dirtying_find(&b->pd, &b->dev));

	test_ask(b, PAGE_DIRTYING_ACTIVE, 1);
	test_poll(b);
	test_expect_answer(test, b, PAGE_DIRTYING_DRIVER,
			   test_word(PAGE_DIRTYING_REFUSED, 1), 0);
	test_poll(b);
	test_expect_quiet(test, b, 0);

	test_ask(b, PAGE_DIRTYING_IDLE, 2);
	test_poll(b);
	test_expect_answer(test, b, PAGE_DIRTYING_DRIVER,
			   test_word(PAGE_DIRTYING_IDLE, 2), 0);
}

static struct kunit_case page_dirtying_test_cases[] = {
	KUNIT_CASE(page_dirtying_test_find),
	KUNIT_CASE(page_dirtying_test_interval),
	KUNIT_CASE(page_dirtying_test_migration),
	KUNIT_CASE(page_dirtying_test_no_attention),
	KUNIT_CASE(page_dirtying_test_generations),
	KUNIT_CASE(page_dirtying_test_reset),
	KUNIT_CASE(page_dirtying_test_resume),
	KUNIT_CASE(page_dirtying_test_unknown_state),
	KUNIT_CASE(page_dirtying_test_unreachable),
	KUNIT_CASE(page_dirtying_test_two_blocks),
	KUNIT_CASE(page_dirtying_test_removed),
	KUNIT_CASE(page_dirtying_test_not_armed),
	{}
};

static int page_dirtying_test_init(struct kunit *test)
{
	struct page_dirtying_test *t;
	int i;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	test->priv = t;
	if (!t)
		return -ENOMEM;

	for (i = 0; i < ARRAY_SIZE(t->bridge); i++) {
		struct test_bridge *b = &t->bridge[i];

		b->bus.ops = &test_ops;
		b->dev.bus = &b->bus;
		b->dev.hdr_type = PCI_HEADER_TYPE_BRIDGE;
		b->config[PCI_COMMAND / 4] = PCI_STATUS_CAP_LIST << 16;
		b->config[PCI_CAPABILITY_LIST / 4] = TEST_OTHER;
		b->config[TEST_OTHER / 4] = TEST_HEADER(0x20, 1) | TEST_POS << 8;
		*test_reg(b, PAGE_DIRTYING_HEADER) = TEST_HEADER(0x20, 2);
		*test_reg(b, PAGE_DIRTYING_INFO) = TEST_INFO(1, 50);
	}

	t->was_armed = dma_mark_dirty_armed();
	__dma_mark_dirty_armed = true;
	t->wishes = test_wishes();

	return 0;
}

static void page_dirtying_test_exit(struct kunit *test)
{
	struct page_dirtying_test *t = test->priv;

	if (!t)
		return;

	/* A test that failed may have left a wish. */
	while (test_wishes() > t->wishes)
		dma_mark_dirty_put();
	__dma_mark_dirty_armed = t->was_armed;
}

static struct kunit_suite page_dirtying_test_suite = {
	.name = "pci_page_dirtying",
	.init = page_dirtying_test_init,
	.exit = page_dirtying_test_exit,
	.test_cases = page_dirtying_test_cases,
};

kunit_test_suite(page_dirtying_test_suite);
