struct device *kunit_device_register(struct kunit *test, const char *name);
