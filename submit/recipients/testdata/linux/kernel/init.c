int init;
