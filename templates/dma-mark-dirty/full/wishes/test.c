/* It is active while anybody wants it, be it a person or not. */
static void mark_dirty_test_wishes(struct kunit *test)
{
	/* The suite is the person here, and wants it. */
	KUNIT_ASSERT_EQ(test, dma_mark_dirty_get(), 0);
	KUNIT_ASSERT_EQ(test, dma_mark_dirty_get(), 0);
	KUNIT_EXPECT_EQ(test, dma_mark_dirty_enable(false), 0);
	KUNIT_EXPECT_EQ(test, dma_mark_dirty_enable(false), 0);
	KUNIT_EXPECT_TRUE(test, static_key_enabled(&dma_mark_dirty_active));
	dma_mark_dirty_put();
	KUNIT_EXPECT_TRUE(test, static_key_enabled(&dma_mark_dirty_active));
	dma_mark_dirty_put();
	KUNIT_EXPECT_FALSE(test, static_key_enabled(&dma_mark_dirty_active));

	KUNIT_EXPECT_EQ(test, dma_mark_dirty_enable(true), 0);
	KUNIT_EXPECT_EQ(test, dma_mark_dirty_enable(true), 0);
	KUNIT_ASSERT_EQ(test, dma_mark_dirty_get(), 0);
	dma_mark_dirty_put();
	KUNIT_EXPECT_TRUE(test, static_key_enabled(&dma_mark_dirty_active));
	KUNIT_EXPECT_EQ(test, dma_mark_dirty_enable(false), 0);
	KUNIT_EXPECT_FALSE(test, static_key_enabled(&dma_mark_dirty_active));
}

/* Drivers have probed, so it is too late to arm. */
static void mark_dirty_test_arm_late(struct kunit *test)
{
	KUNIT_EXPECT_TRUE(test, dma_mark_dirty_arm());
	KUNIT_ASSERT_EQ(test, dma_mark_dirty_enable(false), 0);
	__dma_mark_dirty_armed = false;
	KUNIT_EXPECT_FALSE(test, dma_mark_dirty_arm());
	KUNIT_EXPECT_FALSE(test, dma_mark_dirty_armed());
	KUNIT_EXPECT_EQ(test, dma_mark_dirty_get(), -EOPNOTSUPP);
	__dma_mark_dirty_armed = true;
}

