"""What has drifted between two data sets: the concepts of a version's answers, compared one by one."""
