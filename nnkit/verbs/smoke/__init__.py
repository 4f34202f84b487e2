"""The verb smoke-run: does a model run, train and behave on this device?"""
